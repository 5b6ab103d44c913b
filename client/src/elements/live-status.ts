/** `<live-status data-text-stale="…">`: tells the reader of the page when what it shows may be old. */

import type { Live } from "../api.js";

/** Shown where the page brings no texts of its own. */
const TEXTS: Record<string, string> = {
  stale: "Connection lost. Trying to reconnect \u2026",
  stopped: "Live updates have ended. Reload the page to go on.",
};

/** The text stands only while it is needed, so that a screen reader hears of each change and of nothing else. */
export function liveStatus(live: Live): CustomElementConstructor {
  return class extends HTMLElement {
    private stop: (() => void) | undefined;

    connectedCallback(): void {
      this.setAttribute("role", "status");
      this.setAttribute("aria-live", "polite");
      const show = (): void => {
        const { status } = live;
        this.dataset["state"] = status;
        this.textContent = this.getAttribute(`data-text-${status}`) ?? TEXTS[status] ?? "";
      };
      this.stop = live.onStatus(show);
      show();
    }

    disconnectedCallback(): void {
      this.stop?.();
    }
  };
}
