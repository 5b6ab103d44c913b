/** Says which build this is, so that files of different ones do not take each other for their own. */

declare const __BUILD__: string;

export const BUILD = typeof __BUILD__ === "undefined" ? "" : __BUILD__;
