/**
 * `<live-table data-topic="…">` around a table that the server wrote: its rows come, change and go. Only cells whose
 * text changed are touched; a row's element and cells are found by key, never searched for.
 */

import type { Live } from "../../api.js";
import type { Board, Part, Row } from "./board.js";
import { BoardElement } from "./element.js";
import { text } from "./format.js";

interface Shown {
  readonly element: HTMLTableRowElement;
  readonly texts: Text[];
}

const FLASH = 1_000;
/** Rows beyond which only those in sight are laid out. */
const MANY = 200;

export function liveTable(live: Live): CustomElementConstructor {
  return class extends BoardElement {
    private columns: HTMLTableCellElement[] = [];
    private body: HTMLTableSectionElement | null = null;
    private readonly shown = new Map<string, Shown>();
    private changed: Set<string> | undefined = new Set();
    private flashes = new Map<HTMLElement, number>();
    private sorted = "";
    private descending = false;

    constructor() {
      super(live);
    }

    protected override setUp(): void {
      this.columns = [...this.querySelectorAll<HTMLTableCellElement>("thead th")];
      this.body = this.querySelector("tbody");
      this.shown.clear();
      for (const element of this.body?.rows ?? []) this.adopt(element);
      for (const header of this.columns) this.makeSortable(header);
      this.changed = undefined;
    }

    private adopt(element: HTMLTableRowElement): void {
      const key = element.dataset["key"];
      if (key === undefined) return;
      const texts = [...element.cells].map((cell) => (cell.firstChild ?? cell.appendChild(new Text(""))) as Text);
      this.shown.set(key, { element, texts });
    }

    private makeSortable(header: HTMLTableCellElement): void {
      if (header.querySelector("button")) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      button.addEventListener("click", () => {
        const name = header.dataset["column"] ?? "";
        this.descending = this.sorted === name && !this.descending;
        this.sorted = name;
        for (const other of this.columns) other.removeAttribute("aria-sort");
        header.setAttribute("aria-sort", this.descending ? "descending" : "ascending");
        this.changed = undefined;
        this.draw();
      });
      header.append(button);
    }

    protected override collect({ keys }: Part): void {
      if (keys && this.changed) for (const key of keys) this.changed.add(key);
      else this.changed = undefined;
    }

    protected override render(board: Board): void {
      if (!this.body) return;
      const keys = this.changed ?? new Set([...board.rows.keys(), ...this.shown.keys()]);
      const highlight = this.changed !== undefined;
      this.changed = new Set();
      let order = !highlight;
      const fresh: HTMLTableRowElement[] = [];
      for (const key of keys) {
        const row = board.rows.get(key);
        const shown = this.shown.get(key);
        if (!row) {
          shown?.element.remove();
          this.shown.delete(key);
        } else if (shown) {
          order = this.fill(shown, key, row, highlight) || order;
        } else {
          const made = this.make(key);
          this.fill(made, key, row, false);
          fresh.push(made.element);
          order = true;
        }
      }
      this.body.append(...fresh);
      this.lighten(this.body.rows.length);
      if (order && this.sorted) this.sort(board);
      this.fade();
    }

    /**
     * A browser lays out a table as one piece. Of many rows it should only lay out those in sight, which it does when
     * they are blocks; what they were for a screen reader is then said by roles.
     */
    private lighten(count: number): void {
      if (count <= MANY || this.hasAttribute("data-many")) return;
      this.setAttribute("data-many", "");
      this.style.setProperty("--live-columns", String(this.columns.length));
      this.querySelector("table")?.setAttribute("role", "table");
      for (const group of this.querySelectorAll("thead, tbody")) group.setAttribute("role", "rowgroup");
      for (const header of this.columns) header.setAttribute("role", "columnheader");
      for (const row of this.querySelectorAll("tr")) withRoles(row);
    }

    private make(key: string): Shown {
      const element = document.createElement("tr");
      element.dataset["key"] = key;
      const texts = this.columns.map((header) => {
        const cell = element.insertCell();
        cell.className = header.className;
        return cell.appendChild(new Text(""));
      });
      if (this.hasAttribute("data-many")) withRoles(element);
      const shown = { element, texts };
      this.shown.set(key, shown);
      return shown;
    }

    /** Whether the column that the table is sorted by changed. */
    private fill({ texts }: Shown, key: string, row: Row, highlight: boolean): boolean {
      let moved = false;
      this.columns.forEach((header, index) => {
        const { column = "", places, unit } = header.dataset;
        const node = texts[index];
        const fresh = column === "" ? key : text(Object.prototype.hasOwnProperty.call(row, column) ? row[column] : null, places, unit);
        if (!node || node.data === fresh) return;
        node.data = fresh;
        moved ||= column === this.sorted;
        if (highlight && node.parentElement) this.flash(node.parentElement);
      });
      return moved;
    }

    private flash(cell: HTMLElement): void {
      cell.setAttribute("data-changed", "");
      this.flashes.delete(cell);
      this.flashes.set(cell, performance.now() + FLASH);
    }

    /** One timer for all cells; the map has them in the order in which they end. */
    private fade(): void {
      const now = performance.now();
      for (const [cell, end] of this.flashes) {
        if (end > now) break;
        cell.removeAttribute("data-changed");
        this.flashes.delete(cell);
      }
      const next = this.flashes.values().next();
      if (!next.done && !this.fading) {
        this.fading = setTimeout(() => {
          this.fading = undefined;
          this.fade();
        }, next.value - now + 50);
      }
    }

    private fading: ReturnType<typeof setTimeout> | undefined;

    protected override tearDown(): void {
      clearTimeout(this.fading);
      this.fading = undefined;
    }

    private sort(board: Board): void {
      const name = this.sorted;
      const entries = [...board.rows].map(([key, row]) => [key, name === "" ? key : row[name]] as const);
      entries.sort(([, a], [, b]) => compare(a, b) * (this.descending ? -1 : 1));
      let place = this.body!.firstElementChild;
      for (const [key] of entries) {
        const { element } = this.shown.get(key)!;
        if (element === place) place = place.nextElementSibling;
        else this.body!.insertBefore(element, place);
      }
    }
  };
}

function withRoles(row: HTMLTableRowElement): void {
  row.setAttribute("role", "row");
  for (const cell of row.cells) if (cell.localName === "td") cell.setAttribute("role", "cell");
}

/** Numbers by size, texts by the alphabet, nothing last. */
function compare(a: unknown, b: unknown): number {
  if (a === b) return 0;
  if (a === null || a === undefined) return 1;
  if (b === null || b === undefined) return -1;
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), undefined, { numeric: true });
}
