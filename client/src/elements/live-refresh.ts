/** `<live-refresh id="…" topics="…">`: its content is fetched again when one of its topics speaks. */

import type { Live } from "../api.js";
import { parseTopics } from "../page.js";
import type { Refresher } from "../refresher.js";
import { report } from "../report.js";
import { Membership, relay } from "./membership.js";

export function liveRefresh(live: Live, refresher: Refresher): CustomElementConstructor {
  return class extends HTMLElement {
    static readonly observedAttributes = ["topics"];

    /** Left the document before something that was said could be shown. */
    private behind = false;
    private readonly mark = (): void => refresher.mark(this);
    private readonly membership = new Membership(
      live,
      this,
      { "*": this.mark, snapshot: this.mark, reset: this.mark, error: relay(this, "live:error") },
      () => parseTopics(this.getAttribute("topics")),
    );

    connectedCallback(): void {
      if (!this.id) return report(new Error("<live-refresh> needs an id, to find its content in the page again"));
      this.membership.join();
      if (this.behind) this.mark();
    }

    disconnectedCallback(): void {
      this.behind = refresher.forget(this);
      this.membership.leave();
    }

    attributeChangedCallback(): void {
      this.membership.change();
    }
  };
}
