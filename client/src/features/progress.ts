/** `<live-progress topic="live/progress/…">`: shows how far a job is. Its content is the server's. */

import type { Handlers, Live } from "../api.js";
import { defineElements } from "./shared/define.js";
import { ListeningElement } from "./shared/listening.js";

interface View {
  readonly state: "waiting" | "running" | "stalled" | "done" | "failed" | "cancelled";
  readonly seq: number;
  readonly title: string;
  readonly unit: string;
  readonly done: number;
  readonly total: number | null;
  readonly fraction: number | null;
  readonly left: number | null;
  readonly message: string;
  readonly steps: readonly { readonly title: string; readonly message: string }[];
  readonly attempt: number;
  readonly error: string;
  readonly link: string;
  readonly cancellable: boolean;
  readonly lines?: readonly { readonly n: number; readonly text: string; readonly level: string }[];
  readonly traceback?: string;
}

/** Lines of a log that a page shows. */
const LINES = 100;
const OVER = new Set(["done", "failed", "cancelled"]);

function liveProgress(live: Live): CustomElementConstructor {
  return class extends ListeningElement {
    protected override readonly live = live;

    constructor() {
      super();
      this.instead("cancel", () => live.call(this.topic, "cancel"));
    }

    protected override handlers(): Handlers {
      const show = (data: unknown): void => this.take(data as View);
      return { progressed: show, snapshot: show };
    }

    private take(view: View): void {
      if (view.seq <= Number(this.dataset["seq"] ?? -1)) return;
      this.dataset["seq"] = String(view.seq);
      const changed = this.dataset["state"] !== view.state;
      this.dataset["state"] = view.state;
      this.say("title", view.title);
      this.say("state", this.text(view.state));
      this.say("attempt", view.attempt > 1 ? this.text("attempt").replace("%s", String(view.attempt)) : "");
      this.figures(view);
      this.say("message", view.message);
      this.steps(view);
      this.say("error", view.error);
      this.lines(view);
      const link = this.piece<HTMLAnchorElement>("link");
      if (link && view.link) link.href = view.link;
      this.show("link", view.link !== "");
      this.show("cancel", view.cancellable && !OVER.has(view.state));
      this.dispatchEvent(new CustomEvent("live:progress", { detail: view, bubbles: true }));
      if (changed && view.state === "failed") void this.fetchTraceback();
    }

    private figures({ done, total, unit, fraction, left, state }: View): void {
      const language = document.documentElement.lang || undefined;
      const number = new Intl.NumberFormat(language, { maximumFractionDigits: 0 });
      const percent = fraction === null ? null : Math.floor(fraction * 100);
      const of = this.text("of").replace("%(done)s", number.format(Math.floor(done)));
      const counted = total === null ? number.format(Math.floor(done)) : of.replace("%(total)s", number.format(total));
      const text = `${counted} ${unit}`.trimEnd();
      this.say("percent", percent === null ? "" : `${percent} %`);
      this.say("counted", text);
      this.say("left", left === null ? "" : this.text("left").replace("%s", duration(left, language)));
      const bar = this.piece<HTMLProgressElement>("bar");
      if (!bar) return;
      bar.setAttribute("aria-valuetext", text);
      const value = percent ?? (OVER.has(state) ? 0 : null);
      if (value === null) {
        bar.removeAttribute("value");
        bar.removeAttribute("aria-valuenow");
      } else {
        bar.value = value;
        bar.setAttribute("aria-valuenow", String(value));
      }
    }

    private steps({ steps }: View): void {
      const texts = steps.map(({ title, message }) => (message ? `${title}: ${message}` : title));
      this.piece("steps")?.replaceChildren(...texts.map((text) => item(text)));
    }

    private lines({ lines = [], attempt }: View): void {
      const list = this.piece("lines");
      if (!list) return;
      if (this.dataset["attempt"] !== String(attempt)) list.replaceChildren();
      this.dataset["attempt"] = String(attempt);
      const last = Number((list.lastElementChild as HTMLElement | null)?.dataset["n"] ?? 0);
      for (const { n, text, level } of lines.filter((line) => line.n > last)) {
        const entry = item(text);
        entry.dataset["n"] = String(n);
        entry.dataset["level"] = level;
        list.append(entry);
      }
      while (list.childElementCount > LINES) list.firstElementChild!.remove();
      this.show("log", list.childElementCount > 0);
    }

    /** Only staff gets one, and it is in no event. */
    private async fetchTraceback(): Promise<void> {
      const pre = this.piece("traceback")?.querySelector("pre");
      const response = pre && (await fetch(this.dataset["url"]!, { headers: { Accept: "application/json" } }).catch(() => null));
      if (!response?.ok) return;
      const { traceback } = (await response.json()) as View;
      if (!traceback) return;
      pre!.textContent = traceback;
      this.show("traceback", true);
    }
  };
}

function item(text: string): HTMLLIElement {
  const element = document.createElement("li");
  element.textContent = text;
  return element;
}

/** “2 minutes”, in the language of the page. */
function duration(seconds: number, language: string | undefined): string {
  const [count, unit] =
    seconds < 60 ? [Math.max(1, seconds), "second"] : seconds < 3600 ? [seconds / 60, "minute"] : [seconds / 3600, "hour"];
  return new Intl.NumberFormat(language, {
    style: "unit",
    unit: unit as string,
    unitDisplay: "long",
    maximumFractionDigits: 0,
  }).format(count as number);
}

defineElements({ "live-progress": liveProgress });
