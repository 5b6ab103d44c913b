/** `<live-refresh id="…" topics="…">`: its content is fetched again when one of its topics speaks. */

import type { Live, LiveError, LiveEvent } from "../api.js";
import { parseTopics } from "../page.js";
import type { Refresher } from "../refresher.js";
import { report } from "../report.js";
import { Membership, relay } from "./membership.js";

export function liveRefresh(live: Live, refresher: Refresher): CustomElementConstructor {
  return class extends HTMLElement {
    static readonly observedAttributes = ["topics"];

    /** Left the document before something that was said could be shown. */
    private behind = false;
    private readonly membership = partMembership(live, refresher, this);

    connectedCallback(): void {
      if (!this.id) return report(new Error("<live-refresh> needs an id, to find its content in the page again"));
      this.membership.join();
      if (this.behind) refresher.mark(this);
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

/** The subscription of a part of the page that is fetched again when one of its topics speaks. */
export function partMembership(live: Live, refresher: Refresher, part: HTMLElement): Membership {
  const mark = (): void => refresher.mark(part);
  const tell = relay(part, "live:error");
  part.addEventListener("live:refresh", mark);
  const error = (data: unknown, event: LiveEvent): void => {
    tell(data, event);
    // What the viewer may not hear of any more, they may not see any more either: the page knows.
    if (/forbidden|revoked/.test((data as LiveError).code)) mark();
  };
  return new Membership(live, part, { "*": mark, snapshot: mark, reset: mark, error }, () =>
    parseTopics(part.getAttribute("topics")),
  );
}
