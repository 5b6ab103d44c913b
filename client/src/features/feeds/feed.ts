/**
 * `<live-feed>` around a `<live-refresh>` with the items: who reads further down keeps what they read. While the top is
 * out of sight, the page is asked for the items from the first one on; the newer ones are only counted.
 */

import type { Live } from "../../api.js";

/** Half of it stands in the page: the server writes "12 new" as a link to the newest items, which works by itself. */
export function liveFeed(live: Live): CustomElementConstructor {
  return class extends HTMLElement {
    private sight: IntersectionObserver | undefined;

    constructor() {
      super();
      this.addEventListener("live:refreshed", () => this.hold());
      this.addEventListener("click", (event) => {
        if (!(event.target as Element).closest("[data-part=show]") || live.status !== "live") return;
        event.preventDefault();
        this.release();
        // The link goes with the next answer, and the focus would with it.
        this.querySelector<HTMLElement>("[data-part=items]")?.focus({ preventScroll: true });
        this.scrollIntoView();
      });
    }

    connectedCallback(): void {
      const top = this.querySelector("[data-part=top]");
      if (!top) return;
      this.sight = new IntersectionObserver(([entry]) => {
        // A feed that begins below what is in sight has not been scrolled past.
        const below = entry!.boundingClientRect.top >= (entry!.rootBounds?.bottom ?? Infinity);
        this.toggleAttribute("data-scrolled", !entry!.isIntersecting && !below);
        if (this.hasAttribute("data-scrolled")) this.hold();
        else this.release();
      });
      this.sight.observe(top);
    }

    disconnectedCallback(): void {
      this.sight?.disconnect();
    }

    private get list(): HTMLElement | null {
      return this.querySelector("live-refresh");
    }

    /** The items from the first one that is shown are wished for: newer ones wait. */
    private hold(): void {
      const first = this.querySelector<HTMLElement>("[data-part=items]")?.dataset["first"];
      if (this.list && first && this.hasAttribute("data-scrolled")) this.list.dataset["wish"] = first;
    }

    /** The newest are. */
    private release(): void {
      if (!this.list?.dataset["wish"]) return;
      this.toggleAttribute("data-scrolled", false);
      delete this.list.dataset["wish"];
      if (this.querySelector("[data-part=show]")) this.list.dispatchEvent(new Event("live:refresh"));
    }
  };
}
