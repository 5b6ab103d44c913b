/** The ES module. */

import { createLive } from "./client.js";
import { defineElements } from "./elements/define.js";

export type * from "./api.js";

export const live = createLive(() => import("./more.js"));
defineElements(live);
