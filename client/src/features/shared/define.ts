/** Makes a feature's elements known to the browser: once, and when the client is there. */

import type { Live } from "../../api.js";

/** Calls `make` for each name that no script has defined yet. */
export function defineElements(elements: Record<string, (live: Live) => CustomElementConstructor>): void {
  if (!window.live) {
    console.error("django_live: this page has no client. Put {% live_client %} before the other live tags.");
    return;
  }
  for (const [name, make] of Object.entries(elements)) {
    if (!customElements.get(name)) customElements.define(name, make(window.live));
  }
}
