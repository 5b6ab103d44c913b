/** The classic script: `<script src="…/live.js" data-events="…" defer>`. */

import { createLive } from "./client.js";
import { defineElements } from "./elements/define.js";

// A page that swaps its body may run the script again; the first one goes on.
if (!window.live) {
  window.live = createLive();
  const { events } = (document.currentScript as HTMLScriptElement).dataset;
  if (events) window.live.configure({ eventsUrl: events });
  defineElements(window.live);
}
