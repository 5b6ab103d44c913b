/** Makes the elements known to the browser, once. */

import type { Live } from "../api.js";
import { createRefresher } from "../refresher.js";
import { followLists } from "./live-list.js";
import { liveRefresh } from "./live-refresh.js";
import { liveStatus } from "./live-status.js";
import { liveTopic } from "./live-topic.js";

export function defineElements(live: Live): void {
  if (typeof customElements === "undefined" || customElements.get("live-topic")) return;
  const refresher = createRefresher();
  customElements.define("live-topic", liveTopic(live));
  customElements.define("live-refresh", liveRefresh(live, refresher));
  followLists(live, refresher);
  customElements.define("live-status", liveStatus(live));
}
