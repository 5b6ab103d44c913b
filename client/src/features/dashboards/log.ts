/** `<live-log data-topic="…">`: lines that come at the end. Follows them, unless the reader looks at earlier ones. */

import type { Live } from "../../api.js";
import type { Board, Item, Part } from "./board.js";
import { BoardElement } from "./element.js";
import { clock } from "./format.js";

const NEAR = 24;

export function liveLog(live: Live): CustomElementConstructor {
  return class extends BoardElement {
    private waiting: Item[] | undefined = [];
    private list: HTMLElement | null = null;
    private paused = false;
    private filter = "";

    constructor() {
      super(live);
    }

    protected override setUp(): void {
      this.list = this.querySelector("ol");
      const pause = this.querySelector<HTMLButtonElement>("[data-part=pause]");
      const filter = this.querySelector<HTMLInputElement>("[data-part=filter]");
      if (pause) {
        pause.hidden = false;
        pause.onclick = () => {
          this.paused = !this.paused;
          pause.setAttribute("aria-pressed", String(this.paused));
          this.draw();
        };
      }
      if (filter) {
        filter.hidden = false;
        filter.oninput = () => {
          this.filter = filter.value.toLowerCase();
          for (const line of this.list?.children ?? []) this.sieve(line as HTMLElement);
        };
      }
      if (this.list) this.list.scrollTop = this.list.scrollHeight;
    }

    protected override collect({ items }: Part): void {
      if (items && this.waiting) this.waiting.push(...items);
      else this.waiting = undefined;
    }

    protected override render(board: Board): void {
      const { list } = this;
      if (!list || this.paused) return;
      const most = Number(this.dataset["most"]) || 500;
      const follows = list.scrollHeight - list.scrollTop - list.clientHeight < NEAR;
      if (!this.waiting) list.replaceChildren();
      const items = (this.waiting ?? board.items).slice(-most);
      this.waiting = [];
      list.append(...items.map((item) => this.line(item)));
      while (list.childElementCount > most) list.firstElementChild!.remove();
      if (follows) list.scrollTop = list.scrollHeight;
    }

    private line([, time, level, said]: Item): HTMLElement {
      const line = document.createElement("li");
      line.dataset["level"] = String(level);
      const at = document.createElement("time");
      at.dateTime = new Date(time * 1000).toISOString();
      at.textContent = clock(time);
      line.append(at, ` ${level ? `${level} ` : ""}${said}`);
      this.sieve(line);
      return line;
    }

    private sieve(line: HTMLElement): void {
      line.hidden = !line.textContent!.toLowerCase().includes(this.filter);
    }
  };
}
