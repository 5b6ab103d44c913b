/** What has just come, for a moment, at the edge of the page. Text is text: nothing of it becomes markup. */

export interface Told {
  readonly id: number;
  readonly title: string;
  readonly body: string;
  readonly url: string;
  /** Not counted to one that is unread already. */
  readonly is_new: boolean;
  readonly is_quiet: boolean;
}

/** Milliseconds that a toast stays, unless somebody is about to read it. */
const STAYS = 8_000;
const MOST = 3;

/** `follow`: the address below which a notification's own is. */
export function showToast(place: HTMLElement, told: Told, follow: string, close: string): void {
  for (const old of place.querySelectorAll(`[data-id="${told.id}"]`)) old.remove();
  while (place.childElementCount >= MOST) place.firstElementChild!.remove();
  const toast = document.createElement("div");
  toast.className = "live-notification-toast";
  toast.dataset["id"] = String(told.id);
  const text = document.createElement("div");
  text.className = "live-notification-toast-text";
  const title = document.createElement(told.url ? "a" : "strong");
  title.className = "live-notification-toast-title";
  title.textContent = told.title;
  if (title instanceof HTMLAnchorElement) title.href = `${follow}${told.id}/`;
  text.append(title);
  if (told.body) {
    const body = document.createElement("p");
    body.textContent = told.body;
    text.append(body);
  }
  const button = document.createElement("button");
  button.type = "button";
  button.className = "live-notification-toast-close";
  button.setAttribute("aria-label", close);
  button.textContent = "\u00d7";
  button.addEventListener("click", () => toast.remove());
  toast.append(text, button);
  place.append(toast);
  const leave = (): void => {
    const isLookedAt = toast.matches(":hover") || toast.contains(document.activeElement);
    if (isLookedAt && toast.isConnected) setTimeout(leave, STAYS / 4);
    else toast.remove();
  };
  setTimeout(leave, STAYS);
}
