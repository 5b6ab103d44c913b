// The package `eventsource` as its README shows it: `node eventsource.mjs <address>`, a line of JSON per event.
import { EventSource } from "eventsource";

const say = (line) => console.log(JSON.stringify(line));
const source = new EventSource(process.argv[2]);
source.addEventListener("stream-open", ({ data }) => say({ open: JSON.parse(data).topics }));
source.addEventListener("stream-reset", ({ data }) => say({ reset: JSON.parse(data).reason }));
source.addEventListener("counted", ({ data, lastEventId }) => say({ n: JSON.parse(data).n, id: lastEventId }));
source.addEventListener("error", ({ code }) => say({ error: code ?? null, closed: source.readyState === source.CLOSED }));
