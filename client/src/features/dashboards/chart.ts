/**
 * `<live-chart data-topic="…" data-kind="line">`: the series of a window. Drawn by our own canvas renderer, or by uPlot
 * where the page has `window.uPlot` and `data-with="uplot"`. The table inside says the same in words.
 */

import type { Live } from "../../api.js";
import type { Board, Item } from "./board.js";
import { Canvas, type Series } from "./canvas.js";
import { BoardElement } from "./element.js";
import { clock, text } from "./format.js";

type Point = Record<string, number | null>;

interface UPlot {
  setData(data: unknown): void;
  setSize(size: { width: number; height: number }): void;
  destroy(): void;
}

declare global {
  interface Window {
    uPlot?: new (options: unknown, data: unknown, place: HTMLElement) => UPlot;
  }
}

const COLOURS = 6;

export function liveChart(live: Live): CustomElementConstructor {
  return class extends BoardElement {
    private canvas: Canvas | undefined;
    private plot: UPlot | undefined;
    private plotted = "";
    private readonly sizes = new ResizeObserver(() => this.draw());

    constructor() {
      super(live);
    }

    protected override setUp(): void {
      this.sizes.observe(this);
    }

    protected override tearDown(): void {
      this.sizes.disconnect();
      this.plot?.destroy();
      this.plot = undefined;
      this.canvas?.remove();
      this.canvas = undefined;
    }

    protected override collect(): void {}

    protected override render(board: Board): void {
      const { times, series } = columns(board.items, Number(this.dataset["points"]) || Infinity);
      this.tabulate(times, series);
      if (this.dataset["with"] === "uplot" && window.uPlot) return this.drive(window.uPlot, times, series);
      this.canvas ??= new Canvas(this, this.dataset["kind"] ?? "line");
      this.canvas.draw(times, series, this.colours());
    }

    private drive(Plot: NonNullable<Window["uPlot"]>, times: number[], series: Series[]): void {
      const names = series.map(({ name }) => name).join("\0");
      const data = [times, ...series.map(({ values }) => values)];
      const size = { width: this.clientWidth || 300, height: this.clientHeight || 150 };
      if (this.plot && names === this.plotted) return this.plot.setData(data);
      this.plot?.destroy();
      this.plotted = names;
      const colours = this.colours();
      const lines = series.map(({ name }, at) => ({ label: name, stroke: colours[at % COLOURS] }));
      this.plot = new Plot({ ...size, series: [{}, ...lines] }, data, this);
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
