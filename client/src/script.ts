/** The classic script: `<script src="…/live.js" data-events="…" defer>`. */

import { createLive } from "./client.js";
import { defineElements } from "./elements/define.js";

// A page that swaps its body may run the script again; the first one goes on.
if (!window.live) {
  const { events, share, more, known } = (document.currentScript as HTMLScriptElement).dataset;
  let attempts = 0;
  // A browser remembers that a module could not be fetched: under another address it asks again.
  window.live = createLive(() => import(more + (attempts++ ? `?${attempts}` : "")));
  if (events) window.live.configure({ eventsUrl: events, share, known });
  defineElements(window.live);
}
