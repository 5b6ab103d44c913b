/** Charts drawn by what the page has loaded: uPlot (`window.uPlot`) or Chart.js (`window.Chart`). */

import { clock } from "./format.js";

export interface Series {
  readonly name: string;
  readonly values: (number | null)[];
}

/** Draws a chart in an element, again and again. */
export interface Drawer {
  draw(times: number[], series: Series[], colours: string[]): void;
  remove(): void;
}

interface UPlot {
  setData(data: unknown): void;
  setSize(size: { width: number; height: number }): void;
  destroy(): void;
}

interface UPlotClass {
  new (options: unknown, data: unknown, place: HTMLElement): UPlot;
  paths?: { bars?: (options: unknown) => unknown };
}

interface ChartJs {
  data: { datasets: unknown[] };
  update(mode: string): void;
  destroy(): void;
}

declare global {
  interface Window {
    uPlot?: UPlotClass;
    Chart?: new (canvas: HTMLCanvasElement, options: unknown) => ChartJs;
  }
}

type Make = (host: HTMLElement, kind: string) => Drawer;

/** By the name in `data-with`: what makes a drawer, where the page has the library. */
export const LIBRARIES: Record<string, () => Make | undefined> = {
  uplot: () => window.uPlot && ((host, kind) => byUPlot(window.uPlot!, host, kind)),
  chartjs: () => window.Chart && ((host, kind) => byChartJs(window.Chart!, host, kind)),
};

function placeIn(host: HTMLElement): HTMLElement {
  const place = document.createElement("div");
  place.dataset["part"] = "plot";
  place.setAttribute("aria-hidden", "true");
  host.prepend(place);
  return place;
}

/** The style sheet says how high a chart is. */
function heightOf(place: HTMLElement): number {
  return Number.parseFloat(getComputedStyle(place).minHeight) || 192;
}

function byUPlot(Plot: UPlotClass, host: HTMLElement, kind: string): Drawer {
  const place = placeIn(host);
  let plot: UPlot | undefined;
  let plotted = "";
  let wide = 0;
  return {
    draw(times, series, colours) {
      const names = series.map(({ name }) => name).join("\0");
      const data = [times, ...series.map(({ values }) => values)];
      const size = { width: place.clientWidth || 300, height: heightOf(place) };
      if (plot && names === plotted) {
        if (size.width !== wide) plot.setSize(size);
        plot.setData(data);
      } else {
        plot?.destroy();
        const paths = kind === "bars" ? Plot.paths?.bars?.({ size: [0.6, 100] }) : undefined;
        const color = (at: number): string => colours[at % colours.length]!;
        const lines = series.map(({ name }, at) => ({ label: name, stroke: color(at), fill: paths && color(at), paths }));
        const ink = getComputedStyle(host).color;
        const plain = kind === "sparkline";
        const axis = { show: !plain, stroke: ink, grid: { stroke: "#8883", width: 1 } };
        const options = { ...size, series: [{}, ...lines], axes: [axis, axis], legend: { show: !plain } };
        plot = new Plot(options, data, place);
      }
      plotted = names;
      wide = size.width;
    },
    remove() {
      plot?.destroy();
      place.remove();
    },
  };
}

function byChartJs(Chart: NonNullable<Window["Chart"]>, host: HTMLElement, kind: string): Drawer {
  const place = placeIn(host);
  // It takes its size from what it stands in.
  place.style.position = "relative";
  place.style.height = `${heightOf(place)}px`;
  const ink = getComputedStyle(host).color;
  const plain = kind === "sparkline";
  const grid = { color: "#8883" };
  const chart = new Chart(place.appendChild(document.createElement("canvas")), {
    type: kind === "bars" ? "bar" : "line",
    data: { datasets: [] },
    options: {
      animation: false,
      maintainAspectRatio: false,
      normalized: true,
      parsing: false,
      scales: {
        x: { type: "linear", display: !plain, grid, ticks: { color: ink, maxTicksLimit: 6, callback: clock } },
        y: { display: !plain, grid, ticks: { color: ink } },
      },
      plugins: {
        legend: { display: !plain, labels: { color: ink } },
        tooltip: { callbacks: { title: ([one]: { parsed: { x: number } }[]) => clock(one!.parsed.x) } },
      },
    },
  });
  return {
    draw(times, series, colours) {
      // Those that were there stay the same objects: a series that was switched off in the legend stays off.
      const known = new Map(chart.data.datasets.map((each) => [(each as { label: string }).label, each]));
      chart.data.datasets = series.map(({ name, values }, at) => {
        const colour = colours[at % colours.length];
        const look = { label: name, borderColor: colour, backgroundColor: colour, borderWidth: 1.5, pointRadius: 0 };
        const data = values.map((y, index) => ({ x: times[index], y }));
        return Object.assign(known.get(name) ?? look, { data });
      });
      chart.update("none");
    },
    remove() {
      chart.destroy();
      place.remove();
    },
  };
}
