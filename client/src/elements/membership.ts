/** An element's subscription: it lives while the element is in the document. */

import type { Handlers, Live, LiveEvent, Subscription } from "../api.js";

export class Membership {
  private joined = false;
  private subscription: Subscription | undefined;
  private leftAt = "";

  constructor(
    private readonly live: Live,
    private readonly element: HTMLElement,
    private readonly handlers: Handlers,
    private readonly topics: () => string[],
  ) {}

  /** An element that was out of the document goes on from where it left, not from when the page was made. */
  join(): void {
    this.joined = true;
    const topics = this.topics();
    const cursor = this.leftAt || this.element.dataset["cursor"];
    const transport = this.element.dataset["transport"] as "ws";
    if (topics.length) this.subscription = this.live.subscribe(topics, this.handlers, { cursor, transport });
  }

  leave(): void {
    this.joined = false;
    this.subscription?.unsubscribe();
    this.leftAt = this.subscription?.cursor ?? "";
    this.subscription = undefined;
  }

  /** The element names other topics now; those it keeps are not interrupted. */
  change(): void {
    if (!this.joined) return; // A browser tells of the attributes that an element is born with, too.
    this.leave();
    this.leftAt = "";
    this.join();
  }
}

/** A handler that tells the page through a bubbling event. */
export function relay(element: HTMLElement, name: string) {
  return (_data: unknown, event: LiveEvent): void => {
    element.dispatchEvent(new CustomEvent(name, { detail: event, bubbles: true }));
  };
}
