/** What this page knows of a board: one subscription and one copy for all elements that show it. */

import type { Live, LiveEvent, Subscription } from "../../api.js";

export type Row = Record<string, unknown>;
/** Place in the log, time in seconds since 1970, and what was said. */
export type Item = [offset: number, time: number, ...rest: unknown[]];

interface Said {
  run: string;
  n: number;
  age: number | null;
  value?: unknown;
  rows?: Record<string, Row>;
  set?: Record<string, Row>;
  gone?: string[];
  items?: Item[];
}

/** What became of it: `keys` and `items` of a part, neither where all of it may have changed. */
export interface Part {
  keys?: string[];
  items?: Item[];
}

export interface Show {
  update(board: Board, part: Part): void;
}

/** Most items that a page keeps; the server's snapshot has no more. */
const MOST_ITEMS = 10_000;

export class Board {
  value: unknown;
  rows = new Map<string, Row>();
  items: Item[] = [];
  /** By `performance.now()`, when it was written last; undefined: never, as far as known. */
  written: number | undefined;

  private readonly shows = new Set<Show>();
  private subscription: Subscription | undefined;
  private run = "";
  private n = 0;
  private known = false;
  private last = 0;

  constructor(
    private readonly live: Live,
    readonly topic: string,
  ) {}

  add(show: Show): void {
    this.shows.add(show);
    this.follow();
    if (this.known) show.update(this, {});
  }

  remove(show: Show): void {
    this.shows.delete(show);
    this.follow();
  }

  get isUnused(): boolean {
    return !this.shows.size;
  }

  /** A page that nobody sees costs the server nothing; it comes back with a snapshot. */
  follow(): void {
    const wanted = this.shows.size > 0 && !document.hidden;
    if (wanted && !this.subscription) {
      this.subscription = this.live.subscribe(this.topic, {
        snapshot: (data) => this.begin(data as Said),
        "*": (data, event: LiveEvent) => event.type === "update" && this.take(data as Said),
      });
    } else if (!wanted && this.subscription) {
      this.subscription.unsubscribe();
      this.subscription = undefined;
    }
  }

  private begin(said: Said): void {
    this.known = true;
    this.run = said.run;
    this.n = said.n;
    this.value = said.value;
    this.rows = new Map(Object.entries(said.rows ?? {}));
    this.items = said.items ?? [];
    this.last = this.items.at(-1)?.[0] ?? 0;
    this.tell(said, {});
  }

  private take(said: Said): void {
    // Said before the snapshot was taken, which has it: of the same process, which counts.
    if (!this.known || (said.run === this.run && said.n <= this.n)) return;
    this.run = said.run;
    this.n = said.n;
    if ("value" in said) this.value = said.value;
    for (const [key, row] of Object.entries(said.set ?? {})) this.rows.set(key, row);
    for (const key of said.gone ?? []) this.rows.delete(key);
    const items = (said.items ?? []).filter(([offset]) => offset > this.last);
    if (items.length) {
      this.last = items.at(-1)![0];
      this.items = [...this.items, ...items].slice(-MOST_ITEMS);
    }
    this.tell(said, { keys: [...Object.keys(said.set ?? {}), ...(said.gone ?? [])], items });
  }

  private tell({ age }: Said, part: Part): void {
    this.written = age === null ? undefined : performance.now() - age * 1000;
    for (const show of this.shows) show.update(this, part);
  }
}

const boards = new Map<string, Board>();
let watched = false;

export function boardOf(live: Live, topic: string): Board {
  if (!watched) {
    watched = true;
    document.addEventListener("visibilitychange", () => boards.forEach((board) => board.follow()));
  }
  let board = boards.get(topic);
  if (!board) boards.set(topic, (board = new Board(live, topic)));
  return board;
}

export function forget(board: Board): void {
  if (board.isUnused) boards.delete(board.topic);
}
