/** `<live-topic topic="…" data-cursor="…">`: subscribes the page while it is in the document. */

import type { Live } from "../api.js";
import { Membership, relay } from "./membership.js";

/** A function, since `HTMLElement` does not exist where the module is imported outside of a browser. */
export function liveTopic(live: Live): CustomElementConstructor {
  return class extends HTMLElement {
    static readonly observedAttributes = ["topic"];

    private readonly membership = new Membership(
      live,
      this,
      {
        "*": relay(this, "live:event"),
        snapshot: relay(this, "live:snapshot"),
        reset: relay(this, "live:reset"),
        error: relay(this, "live:error"),
      },
      () => [this.getAttribute("topic") ?? ""].filter(Boolean),
    );

    connectedCallback(): void {
      this.membership.join();
    }

    disconnectedCallback(): void {
      this.membership.leave();
    }

    attributeChangedCallback(): void {
      this.membership.change();
    }
  };
}
