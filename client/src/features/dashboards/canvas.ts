/** A small renderer of lines and bars: axes, gaps, and what is under the pointer. Draws as many points as it has pixels. */

import { clock, text } from "./format.js";
import type { Drawer, Series } from "./libraries.js";

const LEFT = 48;
const BOTTOM = 20;
const TOP = 8;
const STEPS = 4;
/** Pixels from one point to the next: with less, a line is drawn by columns. */
const DENSE = 2;

export class Canvas implements Drawer {
  private readonly canvas = document.createElement("canvas");
  private readonly tip = document.createElement("output");
  private times: number[] = [];
  private series: Series[] = [];
  private colours: string[] = [];
  private hover: number | undefined;

  constructor(
    host: HTMLElement,
    private readonly kind: string,
  ) {
    this.canvas.setAttribute("aria-hidden", "true");
    this.tip.hidden = true;
    host.prepend(this.canvas, this.tip);
    this.canvas.addEventListener("pointermove", (event) => this.point(event.offsetX));
    this.canvas.addEventListener("pointerleave", () => this.point(undefined));
  }

  remove(): void {
    this.canvas.remove();
    this.tip.remove();
  }

  draw(times: number[], series: Series[], colours: string[]): void {
    this.times = times;
    this.series = series;
    this.colours = colours;
    this.paint();
  }

  private get plain(): boolean {
    return this.kind === "sparkline";
  }

  private point(x: number | undefined): void {
    if (this.plain || !this.times.length) return;
    this.hover = x;
    this.paint();
  }

  private paint(): void {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const context = this.canvas.getContext("2d");
    if (!context || !width || !height) return;
    const ratio = window.devicePixelRatio || 1;
    if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const left = this.plain ? 1 : LEFT;
    const bottom = height - (this.plain ? 1 : BOTTOM);
    const [low, high] = this.range();
    const y = (value: number): number => bottom - ((value - low) / (high - low)) * (bottom - TOP);
    if (!this.plain) this.axes(context, width, left, bottom, low, high, y);
    const place = this.places(left, width);
    const places = Float64Array.from(this.times, (_, at) => place(at));
    const x = (at: number): number => places[at]!;
    this.series.forEach((one, at) => {
      context.strokeStyle = context.fillStyle = this.colours[at % this.colours.length] ?? "#36c";
      if (this.kind === "bars") this.bars(context, one, at, x, y, bottom, width - left);
      else this.line(context, one, x, y);
    });
    this.tell(context, x, bottom);
  }

  private range(): [number, number] {
    let low = this.kind === "bars" ? 0 : Infinity;
    let high = this.kind === "bars" ? 0 : -Infinity;
    for (const { values } of this.series) {
      for (const value of values) {
        if (value === null) continue;
        if (value < low) low = value;
        if (value > high) high = value;
      }
    }
    if (low > high) return [0, 1];
    return low === high ? [low - 1, high + 1] : [low, high];
  }

  /** Where each point is from left to right. */
  private places(left: number, width: number): (at: number) => number {
    const first = this.times[0] ?? 0;
    const span = (this.times.at(-1) ?? 0) - first || 1;
    if (this.kind === "bars") return (at) => left + ((at + 0.5) / this.times.length) * (width - left);
    return (at) => left + ((this.times[at]! - first) / span) * (width - left - 4);
  }

  private axes(
    context: CanvasRenderingContext2D,
    width: number,
    left: number,
    bottom: number,
    low: number,
    high: number,
    y: (value: number) => number,
  ): void {
    const style = getComputedStyle(this.canvas);
    context.strokeStyle = style.getPropertyValue("--live-grid").trim() || "#8884";
    context.fillStyle = style.color;
    context.font = `11px ${style.fontFamily}`;
    context.lineWidth = 1;
    context.textAlign = "right";
    context.textBaseline = "middle";
    // As many digits as it takes to tell one line of the grid from the next.
    const digits = Math.min(12, Math.max(0, Math.ceil(-Math.log10((high - low) / STEPS))));
    for (let step = 0; step <= STEPS; step += 1) {
      const value = low + ((high - low) * step) / STEPS;
      const place = Math.round(y(value)) + 0.5;
      context.beginPath();
      context.moveTo(left, place);
      context.lineTo(width, place);
      context.stroke();
      context.fillText(text(value, String(digits)), left - 6, place);
    }
    context.textBaseline = "bottom";
    context.textAlign = "left";
    if (this.times.length) context.fillText(clock(this.times[0]!), left, bottom + BOTTOM);
    context.textAlign = "right";
    if (this.times.length > 1) context.fillText(clock(this.times.at(-1)!), width, bottom + BOTTOM);
  }

  private line(
    context: CanvasRenderingContext2D,
    { values }: Series,
    x: (at: number) => number,
    y: (value: number) => number,
  ): void {
    context.lineWidth = 1.5;
    if (x(values.length - 1) - x(0) < DENSE * values.length) return columns(context, values, x, y);
    context.beginPath();
    let pen = false;
    for (let at = 0; at < values.length; at += 1) {
      const value = values[at] ?? null;
      if (value !== null && pen) context.lineTo(x(at), y(value));
      else if (value !== null) context.moveTo(x(at), y(value));
      pen = value !== null;
    }
    context.stroke();
  }

  private bars(
    context: CanvasRenderingContext2D,
    { values }: Series,
    at: number,
    x: (at: number) => number,
    y: (value: number) => number,
    bottom: number,
    width: number,
  ): void {
    const zero = Math.min(bottom, y(0));
    const wide = Math.max(1, (width / values.length / this.series.length) * 0.8);
    values.forEach((value, index) => {
      if (value === null) return;
      const place = x(index) + (at - this.series.length / 2) * wide;
      context.fillRect(place, Math.min(y(value), zero), wide, Math.abs(y(value) - zero) || 1);
    });
  }

  private tell(context: CanvasRenderingContext2D, x: (at: number) => number, bottom: number): void {
    const { hover } = this;
    this.tip.hidden = hover === undefined || !this.times.length;
    if (hover === undefined || !this.times.length) return;
    let nearest = 0;
    this.times.forEach((_, at) => {
      if (Math.abs(x(at) - hover) < Math.abs(x(nearest) - hover)) nearest = at;
    });
    context.fillRect(Math.round(x(nearest)), TOP, 1, bottom - TOP);
    const said = this.series.map(({ name, values }) => `${name}: ${text(values[nearest] ?? null)}`);
    this.tip.textContent = [clock(this.times[nearest]!), ...said].join(" \u00b7 ");
  }
}

/**
 * A line of more points than can be told apart: for each column of pixels a rectangle from the least to the greatest, so
 * no peak is lost. A stroke through as many points costs ten times as much.
 */
function columns(
  context: CanvasRenderingContext2D,
  values: readonly (number | null)[],
  x: (at: number) => number,
  y: (value: number) => number,
): void {
  let column = -1;
  let [least, most, last] = [0, 0, 0];
  const fill = (wide: number): void => {
    if (column >= 0) context.fillRect(column, y(most) - 0.75, wide, y(least) - y(most) + 1.5);
  };
  for (let at = 0; at < values.length; at += 1) {
    const value = values[at] ?? null;
    if (value === null) {
      fill(1);
      column = -1;
      continue;
    }
    const place = Math.round(x(at));
    if (place !== column) {
      const gap = column < 0 ? 0 : place - column;
      fill(Math.max(1, Math.min(DENSE, gap)));
      if (gap > DENSE) slant(context, column, y(last), place, y(value));
      // From where the line came.
      least = most = gap && gap <= DENSE ? last : value;
      column = place;
    }
    if (value < least) least = value;
    if (value > most) most = value;
    last = value;
  }
  fill(1);
}

function slant(context: CanvasRenderingContext2D, fromX: number, fromY: number, toX: number, toY: number): void {
  context.beginPath();
  context.moveTo(fromX, fromY);
  context.lineTo(toX, toY);
  context.stroke();
}
