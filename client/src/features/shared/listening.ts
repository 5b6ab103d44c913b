/** An element that listens to one topic while it is in the document, and goes on from where it left. */

import type { Handlers, Live, Subscription } from "../../api.js";

export abstract class ListeningElement extends HTMLElement {
  private subscription: Subscription | undefined;
  private leftAt = "";

  /** The client. */
  protected abstract readonly live: Live;

  /** What to do with what the topic says. */
  protected abstract handlers(): Handlers;

  protected get topic(): string {
    return this.getAttribute("topic") ?? "";
  }

  connectedCallback(): void {
    if (!this.topic || this.subscription) return;
    const cursor = this.leftAt || this.dataset["cursor"];
    this.subscription = this.live.subscribe(this.topic, this.handlers(), { cursor });
  }

  disconnectedCallback(): void {
    this.subscription?.unsubscribe();
    this.leftAt = this.subscription?.cursor ?? "";
    this.subscription = undefined;
  }

  /** The element of the server-rendered content that has this name. */
  protected piece<E extends HTMLElement = HTMLElement>(name: string): E | null {
    return this.querySelector<E>(`[data-part="${name}"]`);
  }

  protected say(name: string, text: string): void {
    const part = this.piece(name);
    if (part && part.textContent !== text) part.textContent = text;
  }

  protected show(name: string, visible: boolean): void {
    const part = this.piece(name);
    if (part) part.hidden = !visible;
  }

  /** A text that the server has written in the reader's language. */
  protected text(name: string): string {
    return this.getAttribute(`data-text-${name}`) ?? "";
  }

  /** Makes a form ask over the connection that is there; if that cannot be, the form is sent as forms are. */
  protected instead(name: string, ask: () => Promise<unknown>): void {
    this.addEventListener("submit", (event) => {
      const form = event.target as HTMLFormElement;
      if (form !== this.piece(name)) return;
      event.preventDefault();
      const button = form.querySelector("button");
      if (button) button.disabled = true;
      ask().catch(() => form.submit());
    });
  }
}
