/** `<live-messages topics="everyone user/5">`: shows what is published there as `message`, as toasts. Text is text. */

import type { Live, Subscription } from "../../api.js";

interface Message {
  readonly text: string;
  readonly level?: string;
  readonly url?: string;
}

const LEVELS = ["info", "success", "warning", "error"];
/** More at once nobody reads: the oldest go. */
const MOST = 5;

export function liveMessages(live: Live): CustomElementConstructor {
  return class extends HTMLElement {
    private subscription: Subscription | undefined;
    private leftAt = "";
    private polite: HTMLElement | undefined;
    private assertive: HTMLElement | undefined;

    connectedCallback(): void {
      // Regions that are there before the text comes are the ones that are read out.
      this.polite ??= this.region("polite");
      this.assertive ??= this.region("assertive");
      const topics = (this.getAttribute("topics") ?? "").split(" ").filter(Boolean);
      if (topics.length === 0) return;
      const cursor = this.leftAt || this.dataset["cursor"];
      this.subscription = live.subscribe(topics, { message: (data) => this.show(data) }, { cursor });
    }

    disconnectedCallback(): void {
      this.subscription?.unsubscribe();
      this.leftAt = this.subscription?.cursor ?? "";
      this.subscription = undefined;
    }

    private region(politeness: string): HTMLElement {
      const region = this.appendChild(document.createElement("div"));
      region.setAttribute("aria-live", politeness);
      return region;
    }

    private show(data: unknown): void {
      const message = data as Message | null;
      if (typeof message?.text !== "string") return; // Somebody's own event of that name.
      const level = LEVELS.includes(message.level ?? "") ? message.level! : "info";
      const urgent = level === "warning" || level === "error";
      const toast = document.createElement("div");
      toast.className = "live-message";
      toast.dataset["level"] = level;
      toast.append(this.textOf(message), this.closing(toast));
      (urgent ? this.assertive : this.polite)!.append(toast);
      const shown = this.querySelectorAll(".live-message");
      if (shown.length > MOST) shown[0]!.remove();
      const seconds = Number(this.dataset["seconds"]);
      if (!urgent && seconds > 0) leaveAfter(toast, seconds * 1000);
      this.dispatchEvent(new CustomEvent("live:message", { detail: message, bubbles: true }));
    }

    private textOf(message: Message): HTMLElement {
      const url = message.url ?? "";
      const inside = /^\/(?![/\\])/.test(url);
      const text = document.createElement(inside ? "a" : "p");
      if (inside) text.setAttribute("href", url);
      text.textContent = message.text;
      return text;
    }

    private closing(toast: HTMLElement): HTMLElement {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = "\u00d7";
      button.setAttribute("aria-label", this.dataset["textClose"] ?? "Close");
      button.addEventListener("click", () => toast.remove());
      return button;
    }
  };
}

/** Takes it away after a while in which nobody points at it or has the focus in it. */
function leaveAfter(toast: HTMLElement, milliseconds: number): void {
  let timer: ReturnType<typeof setTimeout>;
  const stay = (): void => clearTimeout(timer);
  const leave = (): void => {
    stay();
    timer = setTimeout(() => toast.remove(), milliseconds);
  };
  for (const type of ["pointerenter", "focusin"]) toast.addEventListener(type, stay);
  for (const type of ["pointerleave", "focusout"]) toast.addEventListener(type, leave);
  leave();
}
