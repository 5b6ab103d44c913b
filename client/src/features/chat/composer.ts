/** The form that one writes in: text, files, and what it answers to. */

import { type Draft, newClientId } from "./outbox.js";
import { sizeOf } from "./row.js";
import type { FileRow, Panel, Row } from "./types.js";

/** Milliseconds between two words that somebody is writing. */
const TYPING = 3_000;

export interface ComposerEvents {
  send(draft: Draft): void;
  typing(): void;
  problem(text: string): void;
}

export class Composer {
  private readonly form: HTMLFormElement;
  private readonly field: HTMLTextAreaElement;
  private readonly files: FileRow[] = [];
  private uploading = 0;
  /** Whether it is to be sent as soon as its files are there. */
  private isDue = false;
  private answered: Row["reply_to"] = null;
  private typed = 0;

  constructor(
    private readonly panel: Panel,
    private readonly uploadUrl: string,
    private readonly largest: number,
    private readonly events: ComposerEvents,
  ) {
    this.form = panel.piece<HTMLFormElement>("composer")!;
    this.field = panel.piece<HTMLTextAreaElement>("text")!;
    const input = panel.piece<HTMLInputElement>("file")!;
    input.multiple = true;
    input.onchange = () => {
      for (const file of input.files ?? []) void this.upload(file);
      input.value = "";
    };
    this.form.onsubmit = (event) => {
      event.preventDefault();
      this.submit();
    };
    this.field.onkeydown = (event) => this.pressed(event);
    this.field.oninput = () => this.wrote();
    this.field.onpaste = (event) => {
      const files = [...(event.clipboardData?.files ?? [])];
      if (!files.length) return;
      event.preventDefault();
      for (const file of files) void this.upload(file);
    };
    panel.piece("reply-end")!.onclick = (event) => {
      event.preventDefault();
      this.answer(null);
      this.field.focus();
    };
  }

  /** Says what the next message answers to. */
  answer(to: Row["reply_to"]): void {
    this.answered = to;
    const line = this.panel.piece("reply")!;
    line.hidden = !to;
    if (!to) return;
    const name = to.author?.name ?? this.panel.text("gone");
    this.panel.piece("reply-text")!.textContent = `${this.panel.text("answering", name)}: ${to.text}`;
    this.field.focus();
  }

  enable(isEnabled: boolean): void {
    for (const part of ["text", "file", "send"]) {
      const field = this.panel.piece<HTMLInputElement>(part);
      if (field) field.disabled = !isEnabled;
    }
  }

  private pressed(event: KeyboardEvent): void {
    if (event.key === "Escape" && this.answered) this.answer(null);
    const isTouched = matchMedia("(pointer: coarse)").matches; // There is no Shift beside Enter.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || isTouched) return;
    event.preventDefault();
    this.submit();
  }

  private wrote(): void {
    const now = Date.now();
    if (!this.field.value.trim() || now - this.typed < TYPING) return;
    this.typed = now;
    this.events.typing();
  }

  private submit(): void {
    const text = this.field.value.trim();
    this.isDue = this.uploading > 0;
    if ((!text && !this.files.length) || this.isDue) return;
    const files = this.files.splice(0);
    this.events.send({ client_id: newClientId(), text, reply_to: this.answered, files, at: new Date().toISOString() });
    this.field.value = "";
    this.typed = 0;
    this.answer(null);
    this.panel.piece("files")!.replaceChildren();
    this.field.focus();
  }

  private async upload(file: File): Promise<void> {
    if (file.size > this.largest) return this.events.problem(this.panel.text("large"));
    const item = document.createElement("li");
    item.textContent = this.panel.text("uploading", file.name);
    this.panel.piece("files")!.append(item);
    this.uploading += 1;
    try {
      const row = await this.post(file);
      this.files.push(row);
      this.showFile(item, row);
    } catch (error) {
      item.remove();
      this.isDue = false; // Not without its file.
      this.events.problem((error as Error).message);
    }
    this.uploading -= 1;
    if (this.isDue && !this.uploading) this.submit();
  }

  private async post(file: File): Promise<FileRow> {
    const data = new FormData();
    data.append("csrfmiddlewaretoken", this.form.querySelector<HTMLInputElement>('[name="csrfmiddlewaretoken"]')?.value ?? "");
    data.append("file", file);
    const failed = new Error(this.panel.text("error"));
    const response = await fetch(this.uploadUrl, { method: "POST", body: data, headers: { Accept: "application/json" } }).catch(() => {
      throw failed;
    });
    const answer = (await response.json().catch(() => ({}))) as FileRow & { errors?: { message: string }[] };
    if (!response.ok) throw answer.errors?.[0] ? new Error(answer.errors[0].message) : failed;
    return answer;
  }

  private showFile(item: HTMLElement, row: FileRow): void {
    const remove = document.createElement("button");
    remove.type = "button";
    remove.className = "live-chat-remove";
    remove.textContent = "×";
    remove.setAttribute("aria-label", this.panel.text("remove", row.name));
    remove.onclick = () => {
      this.files.splice(this.files.indexOf(row), 1);
      item.remove();
      this.field.focus();
    };
    item.replaceChildren(`${row.name} (${sizeOf(row.size)}) `, remove);
  }
}
