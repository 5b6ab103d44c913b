/** Who is writing, and how far the others have read. */

import type { Panel, Person, Read } from "./types.js";

/** Milliseconds that somebody counts as writing after they said so. */
const WRITING = 6_000;

export class Now {
  private readonly writing = new Map<string, { readonly name: string; readonly timer: ReturnType<typeof setTimeout> }>();
  private readonly read = new Map<string, Read>();
  private ownLast = 0;

  constructor(private readonly panel: Panel) {}

  typing({ id, name }: Person): void {
    if (id === this.panel.me) return;
    clearTimeout(this.writing.get(id)?.timer);
    this.writing.set(id, { name, timer: setTimeout(() => this.wrote(id), WRITING) });
    this.showTyping();
  }

  /** Their message is there. */
  wrote(id: string): void {
    clearTimeout(this.writing.get(id)?.timer);
    if (this.writing.delete(id)) this.showTyping();
  }

  hasRead(...read: readonly Read[]): void {
    for (const one of read) {
      if (one.id !== this.panel.me && one.number >= (this.read.get(one.id)?.number ?? 0)) this.read.set(one.id, one);
    }
    this.showSeen();
  }

  /** The number of the reader's newest message, which the others have seen or not. */
  wroteUpTo(number: number): void {
    this.ownLast = Math.max(this.ownLast, number);
    this.showSeen();
  }

  close(): void {
    for (const { timer } of this.writing.values()) clearTimeout(timer);
    this.writing.clear();
  }

  private showTyping(): void {
    const names = [...this.writing.values()].map(({ name }) => name);
    const word = names.length > 1 ? "typing-many" : "typing-one";
    this.say("typing", names.length ? this.panel.text(word, this.together(names)) : "");
  }

  private showSeen(): void {
    const names = [...this.read.values()].filter(({ number }) => this.ownLast && number >= this.ownLast).map(({ name }) => name);
    this.say("seen", names.length ? this.panel.text("seen", this.together(names)) : "");
  }

  private together(names: string[]): string {
    const [last, ...others] = [...names].reverse();
    return others.length ? this.panel.text("and", others.reverse().join(", "), last!) : last!;
  }

  private say(name: string, text: string): void {
    const part = this.panel.piece(name);
    if (part && part.textContent !== text) part.textContent = text;
  }
}
