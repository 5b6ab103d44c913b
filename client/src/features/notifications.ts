/** `<live-notifications topic="live/inbox/7">`: the bell, its list, and toasts. Its links and forms work without it. */

import type { Live, Subscription } from "../api.js";
import { showToast, type Told } from "./notifications/toasts.js";
import { Unread, type Read } from "./notifications/unread.js";
import { defineElements } from "./shared/define.js";

/** Milliseconds that a list waits for further news before it is fetched. */
const SETTLE = 150;

function liveNotifications(live: Live): CustomElementConstructor {
  return class extends HTMLElement {
    private subscription: Subscription | undefined;
    private unread = new Unread([]);
    private timer: ReturnType<typeof setTimeout> | undefined;
    private asked = 0;

    private readonly onKey = (event: KeyboardEvent): void => {
      if (event.key === "Escape" && this.isOpen) this.close(true);
    };
    private readonly onPointer = (event: Event): void => {
      if (this.isOpen && !event.composedPath().includes(this)) this.close(false);
    };

    connectedCallback(): void {
      this.unread = new Unread(keysIn(this.dataset["unread"] ?? ""), this.most);
      const { bell, panel } = this;
      if (!bell || !panel) return;
      bell.setAttribute("role", "button");
      bell.setAttribute("aria-expanded", "false");
      bell.setAttribute("aria-haspopup", "dialog");
      bell.onclick = (event) => this.clicked(event);
      bell.onkeydown = (event) => {
        if (event.key !== " ") return;
        event.preventDefault();
        this.toggle();
      };
      panel.setAttribute("role", "dialog");
      panel.setAttribute("aria-labelledby", "live-bell-panel-title");
      panel.onsubmit = (event) => this.submitted(event);
      document.addEventListener("keydown", this.onKey);
      document.addEventListener("pointerdown", this.onPointer);
      this.subscription = live.subscribe(
        this.getAttribute("topic") ?? "",
        {
          notified: (data) => this.notified(data as Told),
          read: (data) => this.wasRead(data as Read),
          snapshot: (data) => {
            this.unread = new Unread((data as { unread_ids: number[] }).unread_ids, this.most);
            this.count();
            this.refreshSoon();
          },
        },
        { cursor: this.dataset["cursor"] },
      );
    }

    disconnectedCallback(): void {
      this.subscription?.unsubscribe();
      this.subscription = undefined;
      clearTimeout(this.timer);
      document.removeEventListener("keydown", this.onKey);
      document.removeEventListener("pointerdown", this.onPointer);
    }

    private get bell(): HTMLElement | null {
      return this.querySelector("[data-live-bell]");
    }

    private get panel(): HTMLElement | null {
      return this.querySelector("[data-live-panel]");
    }

    private get isOpen(): boolean {
      return this.panel?.hidden === false;
    }

    // -- what is told ----------------------------------------------------------------------------------

    private notified(told: Told): void {
      if (told.is_new) this.unread.add(told.id);
      this.count();
      this.refreshSoon();
      const place = this.querySelector<HTMLElement>("[data-live-toasts]");
      const isWanted = this.hasAttribute("data-toasts") && !told.is_quiet && !this.isOpen && document.visibilityState === "visible";
      if (place && isWanted) showToast(place, told, this.dataset["follow"] ?? "", this.dataset["textClose"] ?? "Close");
      this.dispatchEvent(new CustomEvent("live:notified", { detail: told, bubbles: true }));
    }

    private wasRead(told: Read): void {
      this.unread.remove(told);
      this.count();
      this.refreshSoon();
      for (const toast of this.querySelectorAll<HTMLElement>("[data-live-toasts] > [data-id]")) {
        const id = Number(toast.dataset["id"]);
        if (told.ids ? told.ids.includes(id) : id <= told.newest) toast.remove();
      }
    }

    private get most(): number {
      return Number(this.dataset["most"] ?? 100);
    }

    private count(): void {
      const unread = this.unread.count;
      const text = unread >= this.most ? `${this.most - 1}+` : String(unread);
      const badge = this.querySelector<HTMLElement>("[data-live-badge]");
      if (badge) {
        badge.textContent = text;
        badge.hidden = unread === 0;
      }
      this.bell?.setAttribute("aria-label", (this.dataset["textLabel"] ?? "%s").replace("%s", text));
    }

    // -- the list --------------------------------------------------------------------------------------

    private clicked(event: MouseEvent): void {
      if (event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
      event.preventDefault();
      this.toggle();
    }

    private toggle(): void {
      if (this.isOpen) return this.close(true);
      const panel = this.panel!;
      panel.hidden = false;
      this.querySelector("[data-live-toasts]")?.replaceChildren(); // The list has them.
      this.bell?.setAttribute("aria-expanded", "true");
      // Not from who has gone on in the list of the last time.
      void this.refresh().then(() => panel.contains(document.activeElement) || panel.querySelector<HTMLElement>("#live-bell-panel-title")?.focus());
    }

    private close(isFocused: boolean): void {
      this.panel!.hidden = true;
      this.bell?.setAttribute("aria-expanded", "false");
      if (isFocused) this.bell?.focus();
    }

    private refreshSoon(): void {
      clearTimeout(this.timer);
      if (this.isOpen) this.timer = setTimeout(() => void this.refresh(), SETTLE);
    }

    private async refresh(): Promise<void> {
      const asked = (this.asked += 1);
      const panel = this.panel!;
      panel.setAttribute("aria-busy", "true");
      try {
        const response = await fetch(this.dataset["latest"] ?? "", { credentials: "same-origin" });
        if (!response.ok || response.redirected) throw new Error(String(response.status));
        const page = new DOMParser().parseFromString(await response.text(), "text/html");
        if (asked !== this.asked) return; // A later one knows more.
        const focus = placeOfFocus(panel);
        panel.replaceChildren(...page.body.childNodes);
        focus && panel.querySelector<HTMLElement>(focus)?.focus();
      } catch {
        if (asked === this.asked && !panel.childElementCount) panel.textContent = this.dataset["textFailed"] ?? "";
      } finally {
        if (asked === this.asked) panel.removeAttribute("aria-busy");
      }
    }

    private submitted(event: SubmitEvent): void {
      const form = event.target as HTMLFormElement;
      event.preventDefault();
      const data = new FormData(form);
      const submitter = event.submitter as HTMLButtonElement | null;
      if (submitter?.name) data.append(submitter.name, submitter.value);
      const init = { method: "POST", body: data, headers: { Accept: "application/json" } };
      void fetch(form.action, init)
        .then(async (response) => {
          if (!response.ok) throw new Error(String(response.status));
          this.wasRead((await response.json()) as Read);
          await this.refresh();
          this.panel?.querySelector<HTMLElement>("#live-bell-panel-title")?.focus();
        })
        .catch(() => form.submit()); // As without this script: the browser says what is wrong.
    }
  };
}

/** Keys with commas between them. */
function keysIn(text: string): number[] {
  return text ? text.split(",").map(Number) : [];
}

/** Where the reader was, as far as it is there again after a refresh. */
function placeOfFocus(panel: HTMLElement): string {
  const focused = document.activeElement;
  if (!focused || !panel.contains(focused)) return "";
  const item = focused.closest<HTMLElement>("[data-id]")?.dataset["id"];
  return item ? `[data-id="${item}"] ${focused.localName}` : "#live-bell-panel-title";
}

defineElements({ "live-notifications": liveNotifications });
