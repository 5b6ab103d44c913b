/** Where the client touches the page, other than through its elements. */

import type { StatusBoard } from "./status.js";

/** The names in a `topics` attribute: separated by spaces, each percent-encoded. */
export function parseTopics(list: string | null): string[] {
  return (list ?? "").split(/\s+/).filter(Boolean).map(decoded);
}

function decoded(name: string): string {
  try {
    return decodeURIComponent(name);
  } catch {
    return name; // Written by hand, with a bare percent sign.
  }
}

/** The position at which the page's content about a topic was read; empty if the page does not say. */
export function pageCursor(topic: string): string {
  if (typeof document === "undefined") return "";
  for (const element of document.querySelectorAll("[data-cursor]")) {
    const topics = parseTopics(element.getAttribute("topics"));
    if (element.getAttribute("topic") === topic || topics.includes(topic)) return element.getAttribute("data-cursor")!;
  }
  return "";
}

/** What happens to the page. */
export interface Page {
  online(): void;
  offline(): void;
  hide(): void;
  show(): void;
  visible(): void;
}

/** Lets the connection follow the page: network, back/forward cache, sleep. */
export function followPage(page: Page): void {
  addEventListener("online", () => page.online());
  addEventListener("offline", () => page.offline());
  addEventListener("pagehide", () => page.hide());
  addEventListener("pageshow", () => page.show());
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && page.visible());
  // From one network into another, where the browser tells.
  const { connection } = (globalThis.navigator ?? {}) as { connection?: EventTarget };
  connection?.addEventListener("change", () => page.online());
}

/** Writes the status where style sheets and scripts can see it. */
export function showStatus(board: StatusBoard): void {
  const root = document.documentElement;
  root.dataset["liveStatus"] = board.value;
  board.listen((status) => {
    root.dataset["liveStatus"] = status;
    document.dispatchEvent(new CustomEvent("live:status", { detail: { status } }));
  });
}
