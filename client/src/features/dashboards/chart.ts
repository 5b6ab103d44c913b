/**
 * `<live-chart data-topic="…" data-kind="line">`: the series of a window. Drawn by our own canvas renderer, or by what
 * `data-with` names where the page has loaded it. The table inside says the same in words.
 */

import type { Live } from "../../api.js";
import type { Board, Item } from "./board.js";
import { Canvas } from "./canvas.js";
import { BoardElement } from "./element.js";
import { clock, text } from "./format.js";
import { type Drawer, LIBRARIES, type Series } from "./libraries.js";

type Point = Record<string, number | null>;

const COLOURS = 6;

export function liveChart(live: Live): CustomElementConstructor {
  return class extends BoardElement {
    private drawer: Drawer | undefined;
    private drawnWith: string | undefined;
    private readonly sizes = new ResizeObserver(() => this.draw());

    constructor() {
      super(live);
    }

    protected override setUp(): void {
      this.sizes.observe(this);
    }

    protected override tearDown(): void {
      this.sizes.disconnect();
      this.drawer?.remove();
      this.drawer = undefined;
    }

    protected override collect(): void {}

    protected override render(board: Board): void {
      const { times, series } = columns(board.items, Number(this.dataset["points"]) || Infinity);
      this.tabulate(times, series);
      this.tool().draw(times, series, this.colours());
    }

    /** A library may be loaded after the chart was drawn without it. */
    private tool(): Drawer {
      const { kind = "line", with: wanted = "" } = this.dataset;
      const make = LIBRARIES[wanted]?.();
      const name = make ? wanted : "";
      if (this.drawer && this.drawnWith === name) return this.drawer;
      this.drawer?.remove();
      this.drawnWith = name;
      return (this.drawer = make ? make(this, kind) : new Canvas(this, kind));
    }

    private colours(): string[] {
      const style = getComputedStyle(this);
      return Array.from({ length: COLOURS }, (_, at) => style.getPropertyValue(`--live-series-${at + 1}`).trim() || "#36c");
    }

    /** What the chart says last, for those who do not see it. Not more often than they could hear it. */
    private tabulate(times: number[], series: Series[]): void {
      const body = this.querySelector("tbody");
      if (!body || (body.rows.length && performance.now() - this.tabulated < 5_000)) return;
      this.tabulated = performance.now();
      body.replaceChildren(
        ...series.map(({ name, values }) => {
          const row = document.createElement("tr");
          const known = values.filter((value) => value !== null);
          const [low, high] = known.reduce(([a, b], each) => [Math.min(a, each), Math.max(b, each)], [Infinity, -Infinity]);
          const cells = [name, values.at(-1), known.length ? low : null, known.length ? high : null];
          for (const cell of cells) row.insertCell().textContent = typeof cell === "string" ? cell : text(cell, "2");
          return row;
        }),
      );
      const at = this.querySelector("[data-part=until]");
      if (at && times.length) at.textContent = clock(times.at(-1)!);
    }

    private tabulated = 0;
  };
}

/** By series, in the order of time, whatever order the points came in; a point lacks what was not measured. */
function columns(items: readonly Item[], most: number): { times: number[]; series: Series[] } {
  let points = most < items.length ? items.slice(-most) : items;
  if (points.some(([, time], at) => at > 0 && time < points[at - 1]![1])) points = [...points].sort((a, b) => a[1] - b[1]);
  const series = new Map<string, Series>();
  for (let at = 0; at < points.length; at += 1) {
    const point = points[at]![2] as Point;
    for (const name in point) {
      let one = series.get(name);
      if (!one) series.set(name, (one = { name, values: new Array(points.length).fill(null) }));
      one.values[at] = point[name] ?? null;
    }
  }
  return { times: points.map(([, time]) => time), series: [...series.values()] };
}
