/** The messages in their order, and where the reader is among them. */

import { fillRow, showTime } from "./row.js";
import type { Panel, Row } from "./types.js";

/** Pixels from the end within which the reader counts as being at it. */
const NEAR = 60;
/** Rows that stay; of more, those that are far up are left out and fetched again when they are looked for. */
const MOST = 600;
const KEPT = 400;

export class MessageList {
  first: number;
  last: number;
  /** Whether the reader stays at the end whatever comes: they went there, and did not scroll back. */
  private isFollowing = false;
  private top = 0;
  private readonly list: HTMLElement;
  private readonly template: HTMLTemplateElement;

  constructor(
    private readonly panel: Panel,
    readonly log: HTMLElement,
    first: number,
    last: number,
  ) {
    this.list = panel.piece("list")!;
    this.template = panel.piece<HTMLTemplateElement>("row")!;
    this.first = first;
    this.last = last;
    for (const row of this.rows) showTime(row);
    // A picture has its height when it is there.
    log.addEventListener("load", () => this.isFollowing && this.toEnd(), true);
    log.addEventListener("scroll", () => {
      this.isFollowing = this.isAtEnd || (this.isFollowing && log.scrollTop >= this.top);
      this.top = log.scrollTop;
    });
  }

  get rows(): NodeListOf<HTMLElement> {
    return this.list.querySelectorAll<HTMLElement>(":scope > li");
  }

  byId(id: number): HTMLElement | null {
    return this.list.querySelector<HTMLElement>(`:scope > [data-id="${id}"]`);
  }

  byClient(clientId: string): HTMLElement | null {
    return this.list.querySelector<HTMLElement>(`:scope > [data-client="${CSS.escape(clientId)}"]`);
  }

  /** A row of the reader's own that the server has not acknowledged. */
  pendingOf(clientId: string): HTMLElement | null {
    const row = this.byClient(clientId);
    return row?.dataset["id"] ? null : row;
  }

  get isAtEnd(): boolean {
    return this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < NEAR;
  }

  toEnd(): void {
    this.isFollowing = true;
    this.log.scrollTop = this.log.scrollHeight;
  }

  /** Adds or changes a message; the row of one that was shown before its time becomes it. */
  put(data: Row): HTMLElement {
    const known = data.id ? this.byId(data.id) : null;
    const row = known ?? this.pendingOf(data.client_id) ?? this.newRow();
    fillRow(row, data, this.panel);
    if (!known) this.list.insertBefore(row, this.after(data.number));
    if (data.number) {
      this.last = Math.max(this.last, data.number);
      this.first = this.first ? Math.min(this.first, data.number) : data.number;
    }
    this.panel.piece("none")!.hidden = true;
    return row;
  }

  /** Puts older ones before the others; what the reader looks at stays where it is. */
  prepend(older: readonly Row[]): void {
    const before = this.log.scrollHeight - this.log.scrollTop;
    this.log.setAttribute("aria-busy", "true"); // They are no news.
    for (const data of older) this.put(data);
    this.log.scrollTop = this.log.scrollHeight - before;
    setTimeout(() => this.log.removeAttribute("aria-busy"), 300);
  }

  /** Shows these in place of all that was known; what waits to be sent stays. */
  replace(rows: readonly Row[]): void {
    for (const row of this.rows) if (row.dataset["id"]) row.remove();
    this.first = this.last = 0;
    for (const data of rows) this.put(data);
  }

  /** Leaves out what is far up, where the reader is at the end. */
  trim(): void {
    const rows = [...this.rows].filter((row) => row.dataset["id"]);
    if (rows.length <= MOST || !this.isAtEnd) return;
    for (const row of rows.slice(0, rows.length - KEPT)) row.remove();
    this.first = Number(rows[rows.length - KEPT]!.dataset["number"]);
    this.toEnd();
  }

  private newRow(): HTMLElement {
    return this.template.content.firstElementChild!.cloneNode(true) as HTMLElement;
  }

  /** The row that a number stands before; what has no number yet stands at the end. */
  private after(number: number): HTMLElement | null {
    if (!number) return null;
    let place: HTMLElement | null = null;
    for (let row = this.list.lastElementChild as HTMLElement | null; row; row = row.previousElementSibling as HTMLElement | null) {
      const own = Number(row.dataset["number"]);
      if (own && own < number) break;
      place = row;
    }
    return place;
  }
}
