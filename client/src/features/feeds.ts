/** Feeds, and times that say how long ago they are. */

import { liveAgo } from "./feeds/ago.js";
import { liveFeed } from "./feeds/feed.js";
import { defineElements } from "./shared/define.js";

defineElements({ "live-feed": liveFeed, "live-ago": liveAgo });
