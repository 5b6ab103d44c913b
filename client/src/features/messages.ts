/** Toasts of what is said to everyone, and to the user of this page. */

import { liveMessages } from "./messages/live-messages.js";
import { defineElements } from "./shared/define.js";

defineElements({ "live-messages": liveMessages });
