/** One message in the list: the server's markup, filled with what is told of the message. */

import { nodesOf } from "./text.js";
import type { FileRow, Panel, Row } from "./types.js";

export function place(row: HTMLElement, name: string): HTMLElement {
  return row.querySelector<HTMLElement>(`[data-show="${name}"]`)!;
}

/** Signs that the reader has put to a message, as the row shows them. */
export function ownSigns(row: HTMLElement): string[] {
  const pressed = row.querySelectorAll<HTMLButtonElement>('.live-chat-reaction[aria-pressed="true"]');
  return [...pressed].map((button) => button.value.split(":")[2]!);
}

export function fillRow(row: HTMLElement, data: Row, panel: Panel): void {
  const isOwn = data.author?.id === panel.me;
  row.id = data.id ? `live-chat-${data.id}` : `live-chat-${data.client_id}`;
  Object.assign(row.dataset, { id: data.id || "", number: data.number || "", client: data.client_id, author: data.author?.id ?? "" });
  row.toggleAttribute("data-own", isOwn);
  place(row, "author").textContent = data.author?.name ?? panel.text("gone");
  place(row, "at").setAttribute("datetime", data.at);
  showTime(row);
  fillQuote(row, data, panel);
  place(row, "files").replaceChildren(...(data.deleted ? [] : data.files.map(fileNode)));
  if (data.deleted) return emptyRow(row, panel);
  showText(row, data.text, data.edited, panel);
  showReactions(row, data.reactions, data.mine ?? ownSigns(row), panel);
  for (const button of row.querySelectorAll<HTMLButtonElement>('.live-chat-menu [name="do"]')) {
    const [word, , code] = button.value.split(":");
    button.value = [word, data.id, code].filter((part) => part !== undefined).join(":");
  }
  const edit = row.querySelector<HTMLElement>('[data-do="edit"]');
  if (edit) edit.hidden = !isOwn;
  const remove = row.querySelector<HTMLElement>('[data-do="delete"]');
  if (remove) remove.hidden = !isOwn && !panel.isModerator;
}

export function showText(row: HTMLElement, text: string, isEdited: boolean, panel: Panel): void {
  place(row, "text").replaceChildren(...nodesOf(text, panel.handle));
  place(row, "edited").textContent = isEdited ? panel.text("edited") : "";
}

/** Nothing of a deleted message is left but that it was there. */
export function emptyRow(row: HTMLElement, panel: Panel): void {
  row.toggleAttribute("data-deleted", true);
  place(row, "text").textContent = panel.text("deleted");
  place(row, "edited").textContent = "";
  place(row, "reply").hidden = true;
  place(row, "files").replaceChildren();
  place(row, "reactions").replaceChildren();
  const hadFocus = row.contains(document.activeElement);
  row.querySelector("details")?.remove();
  if (hadFocus) row.focus();
}

export function showReactions(
  row: HTMLElement,
  counts: Readonly<Record<string, number>>,
  mine: readonly string[],
  panel: Panel,
): void {
  const form = panel.piece<HTMLFormElement>("act")?.id ?? "";
  const buttons = Object.entries(counts).map(([code, count]) => {
    const button = document.createElement("button");
    const isMine = mine.includes(code);
    const sign = panel.signs[code] ?? "·";
    button.className = "live-chat-reaction";
    button.setAttribute("form", form);
    button.name = "do";
    button.value = `${isMine ? "un" : ""}react:${row.dataset["id"]}:${code}`;
    button.setAttribute("aria-pressed", String(isMine));
    button.setAttribute("aria-label", panel.text("react", sign, String(count)));
    button.textContent = `${sign} ${count}`;
    return button;
  });
  const list = place(row, "reactions");
  const focused = [...list.children].indexOf(document.activeElement!);
  list.replaceChildren(...buttons);
  if (focused >= 0) (buttons[focused] ?? buttons.at(-1) ?? row).focus();
}

/** In the reader's own time, and with the day where it is another. */
export function showTime(row: HTMLElement): void {
  const time = place(row, "at");
  const at = new Date(time.getAttribute("datetime") ?? "");
  if (Number.isNaN(at.getTime())) return;
  const language = document.documentElement.lang || undefined;
  const isToday = at.toDateString() === new Date().toDateString();
  const shown = isToday ? ({ timeStyle: "short" } as const) : ({ dateStyle: "medium", timeStyle: "short" } as const);
  time.textContent = new Intl.DateTimeFormat(language, shown).format(at);
  time.title = at.toLocaleString(language);
}

export function fileNode(file: FileRow): HTMLElement {
  const item = document.createElement("li");
  const link = document.createElement("a");
  link.href = file.url;
  if (file.is_image) {
    const image = document.createElement("img");
    Object.assign(image, { src: file.url, alt: file.name, loading: "lazy" });
    link.append(image);
    item.append(link);
  } else {
    link.download = file.name;
    link.dir = "auto";
    link.textContent = file.name;
    const size = document.createElement("small");
    size.textContent = sizeOf(file.size);
    item.append(link, " ", size);
  }
  return item;
}

export function sizeOf(size: number): string {
  return size >= 2 ** 20 ? `${(size / 2 ** 20).toFixed(1)} MB` : `${Math.max(1, Math.round(size / 2 ** 10))} kB`;
}

function fillQuote(row: HTMLElement, { reply_to: answered }: Row, panel: Panel): void {
  const quote = place(row, "reply") as HTMLAnchorElement;
  quote.hidden = !answered;
  if (!answered) return;
  quote.href = `#live-chat-${answered.id}`;
  const name = document.createElement("b");
  name.textContent = answered.author?.name ?? panel.text("gone");
  quote.replaceChildren(name, ` ${answered.text}`);
}
