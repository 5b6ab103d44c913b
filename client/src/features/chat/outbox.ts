/**
 * What the reader has written and the server has not acknowledged: sent one after the other, and again after a
 * connection that broke, by the same client id, so that the server stores it once. A reload of the page keeps it.
 */

import type { CallError, Live } from "../../api.js";
import type { FileRow, Row } from "./types.js";

export interface Draft {
  readonly client_id: string;
  readonly text: string;
  readonly reply_to: Row["reply_to"];
  readonly files: readonly FileRow[];
  readonly at: string;
}

export interface Sent {
  readonly id: number;
  readonly number: number;
  readonly client_id: string;
  readonly at: string;
}

export type State = "sending" | "waiting" | "failed";

export interface Listener {
  acknowledged(draft: Draft, sent: Sent): void;
  changed(draft: Draft, state: State, reason: string): void;
}

/** Whether it was acted on is not known, or it may go better later. */
const PASSING = /^(offline|timeout|connection-lost|busy|unavailable|too-many-messages|too-fast|http-(0|429|5\d\d))$/;
const LONGEST_PAUSE = 15_000;
const FIRST_PAUSE = 1_000;

export class Outbox {
  private readonly waiting: Draft[] = [];
  private readonly failed = new Map<string, Draft>();
  private isBusy = false;
  private pause = FIRST_PAUSE;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly stopListening: () => void;

  constructor(
    private readonly live: Live,
    private readonly topic: string,
    private readonly key: string,
    private readonly listener: Listener,
  ) {
    this.stopListening = live.onStatus((status) => status === "live" && this.retry());
  }

  /** What an earlier page of this tab left. */
  left(): Draft[] {
    try {
      return JSON.parse(sessionStorage.getItem(this.key) ?? "[]") as Draft[];
    } catch {
      return [];
    }
  }

  add(draft: Draft): void {
    this.failed.delete(draft.client_id);
    this.waiting.push(draft);
    this.keep();
    this.listener.changed(draft, "sending", "");
    void this.deliver();
  }

  /** It arrived: the room has told of it, or the server has answered. */
  forget(clientId: string): void {
    const place = this.waiting.findIndex(({ client_id }) => client_id === clientId);
    if (place >= 0) this.waiting.splice(place, 1);
    this.failed.delete(clientId);
    this.keep();
  }

  again(clientId: string): void {
    const draft = this.failed.get(clientId);
    if (draft) this.add(draft);
  }

  close(): void {
    this.stopListening();
    clearTimeout(this.timer);
  }

  private retry(): void {
    this.pause = FIRST_PAUSE;
    void this.deliver();
  }

  private async deliver(): Promise<void> {
    const draft = this.waiting[0];
    if (this.isBusy || !draft) return;
    this.isBusy = true;
    clearTimeout(this.timer);
    this.timer = undefined;
    const { client_id, text, reply_to, files } = draft;
    const data = { client_id, text, reply_to: reply_to?.id ?? null, files: files.map(({ id }) => id) };
    try {
      const sent = await this.live.call<Sent>(this.topic, "send", data);
      this.pause = FIRST_PAUSE;
      this.forget(client_id);
      this.listener.acknowledged(draft, sent);
    } catch (error) {
      this.refused(draft, error as CallError);
    } finally {
      this.isBusy = false;
    }
    if (this.timer === undefined) void this.deliver();
  }

  private refused(draft: Draft, { code, message }: CallError): void {
    if (!this.waiting.includes(draft)) return; // It arrived all the same.
    if (PASSING.test(code)) {
      this.listener.changed(draft, "waiting", "");
      this.timer = setTimeout(() => {
        this.timer = undefined;
        void this.deliver();
      }, this.pause * (0.5 + Math.random() / 2));
      this.pause = Math.min(2 * this.pause, LONGEST_PAUSE);
      return;
    }
    this.forget(draft.client_id);
    this.failed.set(draft.client_id, draft);
    this.listener.changed(draft, "failed", message);
  }

  private keep(): void {
    try {
      if (this.waiting.length) sessionStorage.setItem(this.key, JSON.stringify(this.waiting));
      else sessionStorage.removeItem(this.key);
    } catch {
      // Without a storage it lives as long as the page.
    }
  }
}

/** A name for a message that nobody else makes. (`randomUUID` is not there without TLS.) */
export function newClientId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return `c-${[...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
