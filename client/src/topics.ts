/** Who subscribes to what on this page, and the way of an event to them. */

import type { Handlers, LiveError, LiveEvent } from "./api.js";
import { guarded } from "./report.js";

/** Errors after which it is no use to ask for the topic again. */
export const REFUSALS = new Set(["forbidden", "revoked", "malformed-topic", "too-many-topics"]);

/** What a page published under one of these names must not be taken for the stream's own word. */
const SPECIAL_KEYS = new Set(["*", "snapshot", "reset", "error"]);

export interface Subscriber {
  readonly topics: readonly string[];
  closed: boolean;
  readonly handlers: Handlers;
  /** Whether it sends often, too, or cannot wait. */
  readonly socket: boolean;
}

interface Entry {
  readonly subscribers: Set<Subscriber>;
  /** The code of the refusal; empty while the topic is wanted. */
  refusal: string;
}

export class Topics {
  private readonly entries = new Map<string, Entry>();

  /** Names of the topics to ask for, the oldest first. */
  get wanted(): string[] {
    return [...this.entries.keys()].filter((topic) => this.wants(topic));
  }

  /** Whether one of them is better served by a WebSocket. */
  get wantsSocket(): boolean {
    return this.everySubscriber().some(({ socket }) => socket);
  }

  get isEmpty(): boolean {
    return this.entries.size === 0;
  }

  wants(topic: string): boolean {
    return this.entries.get(topic)?.refusal === "";
  }

  /** A new subscriber is a new reason to ask, so it lifts a refusal. */
  add(subscriber: Subscriber): void {
    for (const topic of subscriber.topics) {
      const entry = this.entries.get(topic) ?? { subscribers: new Set(), refusal: "" };
      entry.refusal = "";
      entry.subscribers.add(subscriber);
      this.entries.set(topic, entry);
    }
  }

  /** Returns the topics that nobody subscribes to any more. */
  remove(subscriber: Subscriber): string[] {
    const gone = subscriber.topics.filter((topic) => {
      const subscribers = this.entries.get(topic)?.subscribers;
      return subscribers?.delete(subscriber) && !subscribers.size;
    });
    for (const topic of gone) this.entries.delete(topic);
    if (gone.length) this.pardon("too-many-topics"); // There is room again.
    return gone;
  }

  /** Lifts refusals: all of them, or those with one code. */
  pardon(code?: string): void {
    for (const entry of this.entries.values()) {
      if (!code || entry.refusal === code) entry.refusal = "";
    }
  }

  /** Passes on what was published. */
  deliver(event: LiveEvent): void {
    const subscribers = new Set(this.subscribersOf(event.topic)); // Who joins now hears the next one.
    if (!SPECIAL_KEYS.has(event.type)) this.call(subscribers, event.type, event);
    this.call(subscribers, "*", event);
  }

  /** Passes on what the stream says of a topic. */
  tell(key: "snapshot" | "reset", event: LiveEvent): void {
    this.call(this.subscribersOf(event.topic), key, event);
  }

  /** Passes on an error, to every subscriber if it names no topic. */
  fail({ code, message, topic = "", action }: LiveError): void {
    const subscribers = new Set(topic ? this.subscribersOf(topic) : this.everySubscriber());
    const entry = this.entries.get(topic);
    if (entry && !action && REFUSALS.has(code)) {
      if (entry.refusal) return; // They know.
      entry.refusal = code;
    }
    console.warn(`live: ${topic || "stream"}: ${code}: ${message}`);
    const data = { code, message, topic: topic || undefined, ...(action && { action }) };
    this.call(subscribers, "error", { topic, type: "stream-error", data });
  }

  private subscribersOf(topic: string): ReadonlySet<Subscriber> {
    return this.entries.get(topic)?.subscribers ?? new Set();
  }

  private everySubscriber(): Subscriber[] {
    return [...this.entries.values()].flatMap((entry) => [...entry.subscribers]);
  }

  private call(subscribers: ReadonlySet<Subscriber>, key: string, event: LiveEvent): void {
    for (const subscriber of [...subscribers]) {
      // The handler of a subscriber before may have closed this one.
      const handlers = subscriber.closed ? {} : subscriber.handlers;
      if ({}.hasOwnProperty.call(handlers, key)) guarded(() => handlers[key]?.(event.data, event));
    }
  }
}
