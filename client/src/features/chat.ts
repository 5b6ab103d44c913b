/** `<live-chat topic="live/chat/5">`: a room. Its links and forms work without this script. */

import type { Live, LiveError, Subscription } from "../api.js";
import { Composer } from "./chat/composer.js";
import { MessageList } from "./chat/list.js";
import { Menu } from "./chat/menu.js";
import { Now } from "./chat/now.js";
import { type Draft, Outbox, type Sent, type State } from "./chat/outbox.js";
import { liveChatRooms } from "./chat/rooms.js";
import { emptyRow, ownSigns, place, showReactions } from "./chat/row.js";
import type { Panel, Person, Reacted, Read, Row } from "./chat/types.js";
import { defineElements } from "./shared/define.js";

/** Milliseconds after which what is looked at counts as read. */
const READ_AFTER = 400;
/** Pixels from the beginning at which older messages are fetched. */
const NEAR = 200;

interface Standing {
  readonly room: number;
  readonly member: boolean;
  readonly muted: boolean;
  readonly banned: boolean;
}

function liveChat(live: Live): CustomElementConstructor {
  return class extends HTMLElement implements Panel {
    private subscriptions: Subscription[] = [];
    private list!: MessageList;
    private now!: Now;
    private outbox!: Outbox;
    private menu: Menu | undefined;
    private composer: Composer | undefined;
    private isLoading = false;
    private unseen = 0;
    private read = 0;
    private readTimer: ReturnType<typeof setTimeout> | undefined;
    private readonly onVisible = (): void => this.readSoon();
    private readonly onPointer = (event: Event): void => {
      if (!event.composedPath().includes(this)) this.menu?.close(false);
    };

    connectedCallback(): void {
      const log = this.piece("log");
      if (!log || this.subscriptions.length) return;
      this.read = Number(this.dataset["read"]);
      this.list = new MessageList(this, log, Number(this.dataset["first"]), Number(this.dataset["last"]));
      this.now = new Now(this);
      const key = `live-chat ${this.me} ${this.topic}`;
      this.outbox = new Outbox(live, this.topic, key, {
        acknowledged: (draft, sent) => this.acknowledged(draft, sent),
        changed: (draft, state, reason) => this.showPending(draft, state, reason),
      });
      this.compose();
      this.follow();
      for (const draft of this.isPast ? [] : this.outbox.left()) {
        if (this.list.byClient(draft.client_id)) this.outbox.forget(draft.client_id);
        else this.outbox.add(draft);
      }
      this.noteOwn();
      this.now.hasRead(...(JSON.parse(this.dataset["receipts"] ?? "[]") as Read[]));
      log.onscroll = () => this.scrolled();
      this.piece("older")!.onclick = (event) => {
        event.preventDefault();
        void this.loadOlder();
      };
      this.piece("newer")!.onclick = () => {
        if (this.isPast) location.assign(location.pathname);
        else this.list.toEnd();
        log.focus();
      };
      document.addEventListener("visibilitychange", this.onVisible);
      document.addEventListener("pointerdown", this.onPointer);
      if (!location.hash.startsWith("#live-chat-")) this.list.toEnd();
      this.readSoon();
    }

    disconnectedCallback(): void {
      for (const one of this.subscriptions.splice(0)) one.unsubscribe();
      this.outbox?.close();
      this.now?.close();
      clearTimeout(this.readTimer);
      document.removeEventListener("visibilitychange", this.onVisible);
      document.removeEventListener("pointerdown", this.onPointer);
    }

    // -- what the pieces ask for -----------------------------------------------------------------------

    get me(): string {
      return this.dataset["me"] ?? "";
    }
    get handle(): string {
      return this.dataset["myHandle"] ?? "";
    }
    get myName(): string {
      return this.dataset["myName"] ?? "";
    }
    get isModerator(): boolean {
      return "moderator" in this.dataset;
    }
    get signs(): Record<string, string> {
      return JSON.parse(this.dataset["signs"] ?? "{}") as Record<string, string>;
    }
    private get topic(): string {
      return this.getAttribute("topic") ?? "";
    }
    /** Whether the page shows an earlier part, which what is new does not follow on. */
    private get isPast(): boolean {
      return "past" in this.dataset;
    }

    piece<E extends HTMLElement = HTMLElement>(name: string): E | null {
      return this.querySelector<E>(`[data-part="${name}"]`);
    }

    text(name: string, ...values: string[]): string {
      const rest = [...values];
      return (this.getAttribute(`data-text-${name}`) ?? "").replace(/%s/g, () => rest.shift() ?? "");
    }

    // -- what is told ----------------------------------------------------------------------------------

    private follow(): void {
      const transport = "ws" as const;
      const room = {
        message: (data: unknown) => this.said(data as Row),
        edited: (data: unknown) => this.changed(data as Row),
        deleted: (data: unknown) => this.deleted((data as Row).id),
        reacted: (data: unknown) => this.reacted(data as Reacted),
        reset: () => void this.reload(),
        error: (error: LiveError) => error.action !== "send" && this.shut("closed"),
      };
      const now = {
        typing: (data: unknown) => this.now.typing(data as Person),
        read: (data: unknown) => this.now.hasRead(data as Read),
        snapshot: (data: unknown) => this.now.hasRead(...(data as { read: Read[] }).read),
      };
      const reader = {
        read: (data: unknown) => {
          const { room, number } = data as { room: number; number: number };
          if (String(room) === this.dataset["room"]) this.read = Math.max(this.read, number);
        },
        standing: (data: unknown) => this.stands(data as Standing),
      };
      this.subscriptions = [
        live.subscribe(this.topic, room, { cursor: this.dataset["cursor"], transport }),
        live.subscribe(this.getAttribute("now") ?? "", now, { transport }),
        live.subscribe(this.getAttribute("reader") ?? "", reader, { cursor: this.dataset["readerCursor"], transport }),
      ];
    }

    private said(data: Row): void {
      const isOwn = data.author?.id === this.me;
      if (data.author) this.now.wrote(data.author.id);
      if (isOwn) this.outbox.forget(data.client_id);
      if (this.list.byId(data.id) || data.number < this.list.first) return; // The page, or the acknowledgement, was faster.
      if (this.isPast) return this.countUnseen();
      if (data.number > this.list.last + 1 && this.list.last) return void this.reload();
      const wasAtEnd = this.list.isAtEnd;
      this.show(data);
      if (wasAtEnd) this.list.toEnd();
      else if (!isOwn) this.countUnseen();
      this.list.trim();
      this.noteOwn();
      this.readSoon();
      this.dispatchEvent(new CustomEvent("live:said", { detail: data, bubbles: true }));
    }

    private changed(data: Row): void {
      if (this.list.byId(data.id)) this.show(data);
    }

    private show(data: Row): void {
      const row = this.list.put(data);
      row.removeAttribute("data-pending");
      place(row, "state").replaceChildren();
    }

    private deleted(id: number): void {
      const row = this.list.byId(id);
      if (row) emptyRow(row, this);
    }

    private reacted({ id, reactions, by, code, on }: Reacted): void {
      const row = this.list.byId(id);
      if (!row) return;
      const mine = new Set(ownSigns(row));
      if (by === this.me) on ? mine.add(code) : mine.delete(code);
      showReactions(row, reactions, [...mine], this);
    }

    private stands({ room, member, muted, banned }: Standing): void {
      if (String(room) !== this.dataset["room"]) return;
      if (banned) return this.shut("closed");
      this.composer?.enable(member && !muted);
      this.notice(muted ? this.text("muted") : member ? "" : this.text("left"));
    }

    private shut(reason: string): void {
      this.composer?.enable(false);
      this.notice(this.text(reason));
    }

    // -- what is sent ----------------------------------------------------------------------------------

    private compose(): void {
      const problem = (text: string): void => this.notice(text);
      this.menu ??= new Menu(live, this.topic, this, this, { reply: (to) => this.composer?.answer(to), problem });
      if (!this.piece("composer")) return;
      this.composer ??= new Composer(this, this.dataset["upload"] ?? "", Number(this.dataset["uploadBytes"]), {
        send: (draft) => this.send(draft),
        typing: () => live.status === "live" && live.send(this.topic, "typing", {}),
        problem,
      });
    }

    private send(draft: Draft): void {
      this.notice("");
      this.outbox.add(draft);
      this.list.toEnd();
    }

    /** The message stands there before the server knows of it, and says so. */
    private showPending(draft: Draft, state: State, reason: string): void {
      if (this.isPast) return;
      const author = { id: this.me, name: this.myName };
      const fresh = { id: 0, number: 0, edited: false, deleted: false, reactions: {} };
      const row = this.list.pendingOf(draft.client_id) ?? this.list.put({ ...draft, ...fresh, author });
      row.dataset["pending"] = state;
      const line = place(row, "state");
      line.textContent = `${this.text(state)}${reason ? `: ${reason}` : ""} `;
      if (state !== "failed") return;
      this.announce(line.textContent);
      line.append(
        this.button("again", () => this.outbox.again(draft.client_id)),
        this.button("discard", () => row.remove()),
      );
    }

    private button(name: string, work: () => void): HTMLButtonElement {
      const button = document.createElement("button");
      Object.assign(button, { type: "button", className: "live-chat-button", textContent: this.text(name), onclick: work });
      return button;
    }

    private acknowledged(draft: Draft, sent: Sent): void {
      if (this.isPast || this.list.byId(sent.id)) return;
      if (sent.number < this.list.first) return this.list.pendingOf(draft.client_id)?.remove();
      if (sent.number > this.list.last + 1 && this.list.last) return; // The room tells of it in its turn.
      const author = { id: this.me, name: this.myName };
      this.show({ ...draft, ...sent, author, edited: false, deleted: false, reactions: {} });
      this.noteOwn();
      this.readSoon();
    }

    // -- where the reader is ---------------------------------------------------------------------------

    private scrolled(): void {
      if (this.list.log.scrollTop < NEAR) void this.loadOlder();
      if (this.list.isAtEnd && !this.isPast) {
        this.unseen = 0;
        this.piece("newer")!.hidden = true;
      }
      this.readSoon();
    }

    private countUnseen(): void {
      this.unseen += 1;
      const button = this.piece("newer")!;
      button.hidden = false;
      button.textContent = this.text("newer", String(this.unseen));
    }

    private readSoon(): void {
      clearTimeout(this.readTimer);
      this.readTimer = setTimeout(() => {
        const { last } = this.list;
        const isSeen = document.visibilityState === "visible" && this.list.isAtEnd && !this.isPast;
        if (!isSeen || last <= this.read || !("member" in this.dataset)) return;
        const before = this.read;
        this.read = last;
        live.call(this.topic, "read", { number: last }).catch(() => (this.read = before));
      }, READ_AFTER);
    }

    private noteOwn(): void {
      const own = [...this.list.rows].filter((row) => "own" in row.dataset && row.dataset["number"]);
      if (own.length) this.now.wroteUpTo(Number(own.at(-1)!.dataset["number"]));
    }

    private async loadOlder(): Promise<void> {
      const { first } = this.list;
      if (this.isLoading || first <= 1) return;
      this.isLoading = true;
      try {
        const rows = await this.fetch(`before=${first}`);
        this.list.prepend(rows);
      } catch {
        this.notice(this.text("error"));
      } finally {
        this.isLoading = false;
        this.piece("older")!.hidden = this.list.first <= 1;
      }
    }

    /** What came in between cannot be had one by one: the newest page in place of what was known. */
    private async reload(): Promise<void> {
      try {
        const rows = await this.fetch("");
        this.list.replace(rows);
        for (const { client_id, author } of rows) if (author?.id === this.me) this.outbox.forget(client_id);
        this.piece("older")!.hidden = this.list.first <= 1;
        this.list.toEnd();
        this.noteOwn();
        this.readSoon();
      } catch {
        this.notice(this.text("error"));
      }
    }

    private async fetch(query: string): Promise<Row[]> {
      const response = await fetch(`${this.dataset["history"]}?${query}`, { headers: { Accept: "application/json" } });
      if (!response.ok || response.redirected) throw new Error(String(response.status));
      return ((await response.json()) as { messages: Row[] }).messages;
    }

    private notice(text: string): void {
      this.piece("notice")!.textContent = text;
    }

    private announce(text: string | null): void {
      this.piece("status")!.textContent = text;
    }
  };
}

defineElements({ "live-chat": liveChat, "live-chat-rooms": liveChatRooms });
