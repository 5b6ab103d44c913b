/** `<live-answer topic="live/answers/…">`: text as it is written; at the end as the server renders it. */

import type { Handlers, Live, LiveEvent } from "../api.js";
import { defineElements } from "./shared/define.js";
import { ListeningElement } from "./shared/listening.js";

/** Whoever writes, and the number of its word; words of a writer that was superseded may come late. */
interface Word {
  readonly t: number;
  readonly n: number;
  readonly text?: string;
  readonly reasoning?: string;
  readonly state?: string;
  readonly error?: string;
}

function liveAnswer(live: Live): CustomElementConstructor {
  return class extends ListeningElement {
    protected override readonly live = live;

    constructor() {
      super();
      this.instead("stop", () => live.call(this.topic, "stop"));
    }

    protected override handlers(): Handlers {
      return {
        "*": (data, event) => this.hear(data as Word, event),
        snapshot: (data) => this.begin(data as Word),
      };
    }

    private get isOver(): boolean {
      return !["waiting", "running"].includes(this.dataset["state"]!);
    }

    private hear(word: Word, { type }: LiveEvent): void {
      if (type.startsWith("stream-")) return;
      const [writer, last] = [Number(this.dataset["t"]), Number(this.dataset["n"])];
      if (word.t < writer || (word.t === writer && (word.n <= last || this.isOver))) return;
      if (word.t > writer) this.begin({ t: word.t, n: -1, state: "running" });
      this.dataset["n"] = String(word.n);
      if (type === "text" || type === "reasoning") this.add(type, word.text!);
      else if (type === "end") this.state(word.state!, word.error ?? "");
      else if (type !== "begin") this.dispatchEvent(new CustomEvent(`live:${type}`, { detail: word, bubbles: true }));
    }

    /** All that was said so far, in place of what is shown. */
    private begin({ t, n, text = "", reasoning = "", state = "running", error = "" }: Word): void {
      this.dataset["t"] = String(t);
      this.dataset["n"] = String(n);
      this.say("text", text);
      this.say("reasoning", reasoning);
      this.show("thinking", reasoning !== "");
      this.state(state, error);
    }

    private add(name: "text" | "reasoning", text: string): void {
      const piece = this.piece(name);
      const node = piece?.lastChild;
      // Into the text that is there: what somebody has selected in it stays selected.
      if (node instanceof Text) node.appendData(text);
      else piece?.append(text);
      if (name === "reasoning") this.show("thinking", true);
    }

    private state(state: string, error: string): void {
      this.dataset["state"] = state;
      this.say("state", this.text(state));
      this.say("error", error);
      this.show("stop", !this.isOver);
      this.piece("text")?.setAttribute("aria-busy", String(!this.isOver));
      if (this.isOver) void this.fetchHtml();
    }

    /** Markdown is rendered by the server, once it is whole. Without an answer the text stays as it is. */
    private async fetchHtml(): Promise<void> {
      const response = await fetch(this.dataset["url"]!, { headers: { Accept: "application/json" } }).catch(() => null);
      if (!response?.ok || !this.isOver) return;
      const { html } = (await response.json()) as { html: string };
      this.piece("text")?.replaceChildren(...new DOMParser().parseFromString(html, "text/html").body.childNodes);
      this.dispatchEvent(new CustomEvent("live:answered", { bubbles: true }));
    }
  };
}

defineElements({ "live-answer": liveAnswer });
