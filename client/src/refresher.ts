/** Brings parts of the page up to date: all that are due, with one fetch of the page. */

import { Backoff } from "./backoff.js";
import { morphChildren } from "./morph.js";
import { fetchPage, partName, Unusable } from "./page-fetch.js";
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

export interface Refresher {
  /** The element's content is behind. */
  mark(element: HTMLElement): void;
  /** Lets go of an element; returns whether its content was behind. */
  forget(element: HTMLElement): boolean;
}

/** One for the page. Closures instead of a class: 50 bytes of the script. */
export function createRefresher(): Refresher {
  const due = new Map<HTMLElement, Due>();
  const backoff = new Backoff();
  /** The elements that are being fetched; empty while no fetch is under way. */
  let batch: readonly HTMLElement[] = [];
  let wakesAt = Infinity;
  let notBefore = 0;
  /** One draw for the whole page: the earliest of two hundred draws would be no jitter at all. */
  let draw = Math.random();
  const timer = new Timer(wake);
  document.addEventListener("visibilitychange", wake);

  function mark(element: HTMLElement): void {
    const now = Date.now();
    const debounce = milliseconds(element, "debounce", DEBOUNCE);
    const since = due.get(element)?.since ?? now;
    const quiet = Math.min(now + debounce, since + Math.max(debounce, LONGEST_DEBOUNCE));
    const at = quiet + draw * milliseconds(element, "jitter", JITTER);
    due.set(element, { since, at });
    if (!batch.length) wakeAt(at);
  }

  function wakeAt(at: number): void {
    at = Math.max(at, notBefore);
    if (at >= wakesAt) return;
    wakesAt = at;
    timer.set(at - Date.now());
  }

  /** Events may have moved the moment since the timer was set. A page that nobody looks at waits until it is shown. */
  function wake(): void {
    wakesAt = Infinity;
    if (batch.length || document.visibilityState === "hidden") return;
    const earliest = Math.max(notBefore, Math.min(...[...due.values()].map(({ at }) => at)));
    if (earliest > Date.now()) wakeAt(earliest);
    else void refresh();
  }

  /** Takes every element that is behind, also those whose own moment has not come: the fetch is paid for. */
  function takeBatch(): HTMLElement[] {
    let length = 0;
    const taken = [...due.keys()].filter((element, i) => {
      length += partName(element).length + 1;
      return i === 0 || length <= LONGEST_HEADER;
    });
    for (const element of taken) due.delete(element);
    return taken;
  }

  async function refresh(): Promise<void> {
    batch = takeBatch();
    draw = Math.random();
    for (const element of batch) rootOf(element).setAttribute("aria-busy", "true");
    try {
      const page = await fetchPage(batch);
      backoff.reset();
      for (const element of batch) {
        if (element.isConnected) guarded(() => update(element, page));
      }
    } catch (error) {
      failed(error);
    }
    for (const element of batch) rootOf(element).removeAttribute("aria-busy");
    batch = [];
    wake();
  }

  function failed(error: unknown): void {
    for (const element of batch) rootOf(element).toggleAttribute("data-live-stale", true);
    if (error instanceof Unusable && !error.passing) return; // Until the next event: the answer would be the same.
    const now = Date.now();
    notBefore = now + backoff.next(error instanceof Unusable ? error.retryAfter : 0);
    for (const element of batch) {
      if (element.isConnected) due.set(element, { since: now, at: now });
    }
  }

  return { mark, forget: (element) => due.delete(element) || batch.includes(element) };
}

function update(element: HTMLElement, page: Document): void {
  const fresh = page.getElementById(element.id);
  const root = rootOf(element);
  root.toggleAttribute("data-live-gone", !fresh);
  root.toggleAttribute("data-live-stale", !fresh);
  if (!fresh) return;
  // The cursor first: topics that are new to the element start at it.
  for (const name of ["data-cursor", "topics"]) {
    const value = fresh.getAttribute(name);
    if (value !== null && value !== element.getAttribute(name)) element.setAttribute(name, value);
  }
  morphChildren(root, rootOf(fresh));
  root.dispatchEvent(new CustomEvent("live:refreshed", { bubbles: true }));
}

/** What is brought up to date: the element, or what a list's template stands in, with the rows. */
function rootOf(element: HTMLElement): HTMLElement {
  return (element.localName === "template" && element.parentElement) || element;
}

function milliseconds(element: HTMLElement, attribute: string, fallback: number): number {
  const value = Number.parseFloat(element.getAttribute(attribute) ?? "");
  return value >= 0 ? value : fallback;
}
