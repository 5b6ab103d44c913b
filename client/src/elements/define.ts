/** Makes the elements known to the browser, once. */

import type { Live } from "../api.js";
import { Refresher } from "../refresher.js";
import { liveRefresh } from "./live-refresh.js";
import { liveTopic } from "./live-topic.js";

export function defineElements(live: Live): void {
  if (typeof customElements === "undefined" || customElements.get("live-topic")) return;
  customElements.define("live-topic", liveTopic(live));
  customElements.define("live-refresh", liveRefresh(live, new Refresher()));
}
