/** What one may do with a message: answer, change, delete, react. Without this script these are forms and links. */

import type { Live } from "../../api.js";
import { place } from "./row.js";
import type { Panel, Row } from "./types.js";

export interface MenuEvents {
  reply(to: NonNullable<Row["reply_to"]>): void;
  problem(text: string): void;
}

export class Menu {
  constructor(
    private readonly live: Live,
    private readonly topic: string,
    private readonly root: HTMLElement,
    private readonly panel: Panel,
    private readonly events: MenuEvents,
  ) {
    root.addEventListener("click", (event) => this.clicked(event));
    root.addEventListener("keydown", (event) => event.key === "Escape" && this.close(true));
    root.addEventListener("toggle", (event) => this.toggled(event), true);
  }

  /** Closes the menu that is open; `isFocused`: and goes back to what had opened it. */
  close(isFocused: boolean, except?: Element): void {
    for (const details of this.root.querySelectorAll<HTMLDetailsElement>("details[open]")) {
      if (details === except) continue;
      details.open = false;
      if (isFocused) details.querySelector("summary")?.focus();
    }
  }

  private toggled(event: Event): void {
    const details = event.target as HTMLDetailsElement;
    if (!details.open) return;
    this.close(false, details);
    // Upwards, where there is more room above it.
    const log = this.panel.piece("log")!.getBoundingClientRect();
    const { top } = details.querySelector("summary")!.getBoundingClientRect();
    details.toggleAttribute("data-up", top > (log.top + log.bottom) / 2);
  }

  private clicked(event: MouseEvent): void {
    const target = (event.target as Element).closest<HTMLElement>('[data-do], [name="do"], summary');
    if (!target) return this.close(false);
    const row = target.closest<HTMLElement>(".live-chat-message");
    if (target.localName === "summary" || !row || event.metaKey || event.ctrlKey) return;
    event.preventDefault();
    const word = target.dataset["do"] ?? (target as HTMLButtonElement).value.split(":")[0];
    this.close(true);
    if (word === "reply") this.reply(row);
    else if (word === "edit") this.edit(row);
    else if (word === "delete") this.ask(row, "delete", {});
    else this.ask(row, "react", { code: (target as HTMLButtonElement).value.split(":")[2], on: word === "react" });
  }

  private reply(row: HTMLElement): void {
    const author = { id: row.dataset["author"] ?? "", name: place(row, "author").textContent ?? "" };
    const text = (place(row, "text").textContent ?? "").slice(0, 120);
    this.events.reply({ id: Number(row.dataset["id"]), author, text });
  }

  private ask(row: HTMLElement, type: string, data: object): void {
    this.live.call(this.topic, type, { id: Number(row.dataset["id"]), ...data }).catch((error: Error) => {
      this.events.problem(error.message || this.panel.text("error"));
    });
  }

  /** The text in a field of its own, in place of it. */
  private edit(row: HTMLElement): void {
    const shown = place(row, "text");
    if (row.querySelector(".live-chat-edit")) return;
    const form = document.createElement("form");
    form.className = "live-chat-edit";
    const field = document.createElement("textarea");
    field.value = shown.textContent ?? "";
    field.dir = "auto";
    field.setAttribute("aria-label", this.panel.text("edit"));
    const [save, cancel] = ["save", "cancel"].map((name) => {
      const button = document.createElement("button");
      button.className = "live-chat-button";
      button.textContent = this.panel.text(name);
      return button;
    }) as [HTMLButtonElement, HTMLButtonElement];
    cancel.type = "button";
    const end = (): void => {
      form.remove();
      shown.hidden = false;
      row.querySelector("summary")?.focus();
    };
    cancel.onclick = end;
    field.onkeydown = (event) => {
      event.stopPropagation();
      if (event.key === "Escape") end();
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        form.requestSubmit();
      }
    };
    form.onsubmit = (event) => {
      event.preventDefault();
      this.live
        .call(this.topic, "edit", { id: Number(row.dataset["id"]), text: field.value })
        .then(end, (error: Error) => this.events.problem(error.message || this.panel.text("error")));
    };
    form.append(field, save, cancel);
    shown.hidden = true;
    shown.after(form);
    field.focus();
  }
}
