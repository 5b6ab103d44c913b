/** Brings parts of the page up to date: all that are due, with one fetch of the page. */

import { Backoff } from "./backoff.js";
import { morphChildren } from "./morph.js";
import { fetchPage, Unusable } from "./page-fetch.js";
import { guarded } from "./report.js";
import { Timer } from "./timer.js";

/** Milliseconds of quiet to wait for before a fetch. */
const DEBOUNCE = 100;
/** Under steady events a part is at most so many milliseconds behind, unless its own debounce is longer. */
const LONGEST_DEBOUNCE = 1000;
/** Milliseconds over which the browsers that heard the same event spread their fetches. */
const JITTER = 200;
/** Names beyond this length wait for the next fetch: servers refuse header fields above 8 kB. */
const LONGEST_HEADER = 4096;

interface Due {
  /** When the content first fell behind, and when it shall be fetched. */
  readonly since: number;
  readonly at: number;
}

export class Refresher {
  private readonly due = new Map<HTMLElement, Due>();
  /** The elements that are being fetched; empty while no fetch is under way. */
  private batch: readonly HTMLElement[] = [];
  private wakesAt = Infinity;
  private notBefore = 0;
  /** One draw for the whole page: the earliest of two hundred draws would be no jitter at all. */
  private draw = Math.random();
  private readonly timer = new Timer(() => this.wake());
  private readonly backoff = new Backoff();

  /** The element's content is behind. */
  mark(element: HTMLElement): void {
    const now = Date.now();
    const debounce = milliseconds(element, "debounce", DEBOUNCE);
    const since = this.due.get(element)?.since ?? now;
    const quiet = Math.min(now + debounce, since + Math.max(debounce, LONGEST_DEBOUNCE));
    this.schedule(element, { since, at: quiet + this.draw * milliseconds(element, "jitter", JITTER) });
  }

  /** Lets go of an element; returns whether its content was behind. */
  forget(element: HTMLElement): boolean {
    return this.due.delete(element) || this.batch.includes(element);
  }

  private schedule(element: HTMLElement, due: Due): void {
    this.due.set(element, due);
    if (!this.batch.length) this.wakeAt(due.at);
  }

  private wakeAt(at: number): void {
    const wakesAt = Math.max(at, this.notBefore);
    if (wakesAt >= this.wakesAt) return;
    this.wakesAt = wakesAt;
    this.timer.set(wakesAt - Date.now());
  }

  /** Events may have moved the moment since the timer was set. */
  private wake(): void {
    this.wakesAt = Infinity;
    const earliest = Math.max(this.notBefore, Math.min(...[...this.due.values()].map((due) => due.at)));
    if (earliest > Date.now()) this.wakeAt(earliest);
    else void this.refresh();
  }

  /** Takes every element that is behind, also those whose own moment has not come: the fetch is paid for. */
  private takeBatch(): HTMLElement[] {
    let length = 0;
    const batch = [...this.due.keys()].filter((element, i) => {
      length += encodeURIComponent(element.id).length + 1;
      return i === 0 || length <= LONGEST_HEADER;
    });
    for (const element of batch) this.due.delete(element);
    return batch;
  }

  private async refresh(): Promise<void> {
    this.batch = this.takeBatch();
    this.draw = Math.random();
    for (const element of this.batch) element.setAttribute("aria-busy", "true");
    try {
      const page = await fetchPage(this.batch.map((element) => element.id));
      this.backoff.reset();
      for (const element of this.batch) {
        if (element.isConnected) guarded(() => update(element, page));
      }
    } catch (error) {
      this.failed(error);
    }
    for (const element of this.batch) element.removeAttribute("aria-busy");
    this.batch = [];
    this.wake();
  }

  private failed(error: unknown): void {
    for (const element of this.batch) element.dataset["liveStale"] = "";
    if (error instanceof Unusable && !error.passing) return; // Until the next event: the answer would be the same.
    const now = Date.now();
    this.notBefore = now + this.backoff.next(error instanceof Unusable ? error.retryAfter : 0);
    for (const element of this.batch) {
      if (element.isConnected) this.due.set(element, { since: now, at: now });
    }
  }
}

function update(element: HTMLElement, page: Document): void {
  const fresh = page.getElementById(element.id);
  element.toggleAttribute("data-live-gone", !fresh);
  element.toggleAttribute("data-live-stale", !fresh);
  if (!fresh) return;
  // The cursor first: topics that are new to the element start at it.
  for (const name of ["data-cursor", "topics"]) {
    const value = fresh.getAttribute(name);
    if (value !== null && value !== element.getAttribute(name)) element.setAttribute(name, value);
  }
  morphChildren(element, fresh);
  element.dispatchEvent(new CustomEvent("live:refreshed", { bubbles: true }));
}

function milliseconds(element: HTMLElement, attribute: string, fallback: number): number {
  const value = Number.parseFloat(element.getAttribute(attribute) ?? "");
  return value >= 0 ? value : fallback;
}
