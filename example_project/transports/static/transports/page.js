// The page: three ways, their figures and their drawings.
import { Flow } from "./flow.js";
import { Polls, post, Socket, Stream } from "./ways.js";

const CUT_MS = 4000;
const STEADY_MS = 1000;
const SLOW_DRAWING_MS = 1000;

const root = document.getElementById("transports");
const form = root.querySelector(".beat-form");
const addresses = {
  topic: root.dataset.topic,
  events: root.dataset.events,
  poll: root.dataset.poll,
  send: root.dataset.send,
  socket: root.dataset.socket,
  csrfToken: form.querySelector("[name=csrfmiddlewaretoken]").value,
};

// The server's clock minus this page's, as the quickest answer to a message showed it.
let clockOffset = 0;
let quickest = Infinity;

async function timed(send) {
  const began = performance.now();
  const { at } = await send();
  const took = performance.now() - began;
  if (took < quickest) {
    quickest = took;
    clockOffset = at - (performance.timeOrigin + began + took / 2);
  }
  return took;
}

class Column {
  constructor(name, Kind) {
    this.element = document.getElementById(`way-${name}`);
    this.flow = new Flow(this.element.querySelector("canvas"));
    this.figures = { events: 0, bytes: 0, requests: 0, reconnects: 0 };
    this.latencies = [];
    this.way = new Kind(name, addresses, this);
    this.button("cut").addEventListener("click", () => this.way.cut(CUT_MS));
    this.button("send").addEventListener("click", () => this.sendTen());
    this.way.start();
  }

  button(name) {
    return this.element.querySelector(`[data-do=${name}]`);
  }

  // -- called by the way --

  state(name) {
    this.flow.state(name);
    this.element.dataset.state = name;
    const words = root.dataset[`text${name[0].toUpperCase()}${name.slice(1)}`];
    const shown = this.element.querySelector(".way__state");
    if (shown.textContent !== words) shown.textContent = words;
  }

  count(figure, more) {
    this.figures[figure] += more;
  }

  poll(asked, answered) {
    this.flow.poll(asked, answered);
  }

  event({ at }) {
    const heard = performance.now();
    const published = at - clockOffset - performance.timeOrigin;
    this.flow.event(Math.min(published, heard), heard);
    this.count("events", 1);
    this.latencies = [...this.latencies.slice(-29), Math.max(0, heard - published)];
  }

  // -- sending --

  send() {
    return timed(() => this.way.send({ via: this.way.name }));
  }

  async sendTen() {
    const button = this.button("send");
    button.disabled = true;
    try {
      const times = [];
      for (let n = 0; n < 10; n += 1) times.push(await this.send());
      this.show("answer", milliseconds(median(times)));
    } catch {
      this.show("answer", "–");
    }
    button.disabled = false;
  }

  // -- showing --

  show(figure, text) {
    const element = this.element.querySelector(`[data-figure=${figure}]`);
    if (element.textContent !== text) element.textContent = text;
  }

  showFigures() {
    for (const name of ["events", "requests", "reconnects"]) this.show(name, String(this.figures[name]));
    this.show("bytes", this.figures.bytes < 10000 ? `${this.figures.bytes}` : `${Math.round(this.figures.bytes / 1000)} k`);
    this.show("latency", this.latencies.length ? milliseconds(median(this.latencies)) : "–");
    this.flow.canvas.setAttribute("aria-label", root.dataset.textFlow.replace("%count", this.flow.events.length));
  }
}

function median(values) {
  return [...values].sort((one, other) => one - other)[Math.floor(values.length / 2)];
}

function milliseconds(value) {
  return value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`;
}

const columns = [new Column("sse", Stream), new Column("websocket", Socket), new Column("polling", Polls)];
for (const element of root.querySelectorAll(".needs-script")) element.hidden = false;

// -- what the buttons do --

// The page's own request, which counts for no column.
async function publish() {
  const publishing = async () => (await post(addresses, { via: "form" })).answer;
  await timed(publishing).catch(() => {});
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  publish();
});
document.getElementById("beat-burst").addEventListener("click", () => {
  for (let n = 0; n < 20; n += 1) publish();
});
document.getElementById("cut-all").addEventListener("click", () => {
  for (const column of columns) column.way.cut(CUT_MS);
});
document.getElementById("long-polls").addEventListener("change", ({ target }) => columns[2].way.hold(target.checked));

const steady = document.getElementById("beat-steady");
const isSteady = () => steady.getAttribute("aria-pressed") === "true";
steady.addEventListener("click", () => steady.setAttribute("aria-pressed", String(!isSteady())));
setInterval(() => isSteady() && !document.hidden && publish(), STEADY_MS);

// -- drawing --

const calm = matchMedia("(prefers-reduced-motion: reduce)");
let drawn = 0;

function draw(now) {
  // Without motion the picture is a new one every second.
  if (!calm.matches || now - drawn >= SLOW_DRAWING_MS) {
    drawn = now;
    for (const column of columns) column.flow.draw(now);
  }
  requestAnimationFrame(draw);
}
requestAnimationFrame(draw);
setInterval(() => columns.forEach((column) => column.showFigures()), 250);

addEventListener("pagehide", () => columns.forEach((column) => column.way.stop()));
addEventListener("pageshow", ({ persisted }) => persisted && columns.forEach((column) => column.way.start()));
