/** What the four elements share: their board, one drawing per frame, and the mark of what is old. */

import type { Live } from "../../api.js";
import { type Board, boardOf, forget, type Part, type Show } from "./board.js";

export abstract class BoardElement extends HTMLElement implements Show {
  protected board: Board | undefined;
  private frame = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private stop: (() => void) | undefined;

  constructor(protected readonly live: Live) {
    super();
  }

  connectedCallback(): void {
    const { topic } = this.dataset;
    if (!topic) return console.error(`<${this.localName}> needs a data-topic`);
    this.setUp();
    this.stop = this.live.onStatus(() => this.markAge());
    this.board = boardOf(this.live, topic);
    this.board.add(this);
  }

  disconnectedCallback(): void {
    this.stop?.();
    clearTimeout(this.timer);
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    if (!this.board) return;
    this.board.remove(this);
    forget(this.board);
    this.board = undefined;
    this.tearDown();
  }

  update(_board: Board, part: Part): void {
    this.collect(part);
    this.draw();
    this.markAge();
  }

  /** Have it drawn with the next frame, once for all that changed until then. */
  protected draw(): void {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      if (this.board) this.render(this.board);
    });
  }

  /** Says of what is shown that it may be old: the connection is lost, or nothing was written for too long. */
  private markAge(): void {
    clearTimeout(this.timer);
    const limit = Number(this.dataset["stale"]) * 1000;
    const age = performance.now() - (this.board?.written ?? -Infinity);
    const lost = this.live.status === "stale" || this.live.status === "stopped";
    const old = limit > 0 && age >= limit;
    if (limit > 0 && !old) this.timer = setTimeout(() => this.markAge(), Math.min(limit - age + 20, 2 ** 31 - 1));
    this.toggleAttribute("data-old", lost || old);
    this.title = lost || old ? (this.dataset["textStale"] ?? "This may be out of date.") : "";
  }

  protected setUp(): void {}
  protected tearDown(): void {}
  protected abstract collect(part: Part): void;
  protected abstract render(board: Board): void;
}
