/** What the page sends: over the open socket, or as a POST beside the stream. */

import type { CallOptions, Configuration, LiveError } from "./api.js";
import { bytesOf, encoded } from "./binary.js";
import type { Connection } from "./connection.js";
import { unwrapped } from "./frames.js";
import { address, errorsOf, request } from "./http.js";
import { Timer } from "./timer.js";
import type { Message, Reply } from "./transport.js";

/** Milliseconds that a message waits for a connection, and a call for its reply, unless it says otherwise. */
const TIMEOUT = 10_000;
/** Milliseconds after which a POST is given up. */
const LOST_AFTER = 30_000;
/** Messages that wait at most; more are refused at once. */
const MOST_WAITING = 100;

/**
 * A message goes out once at most: what was sent and not replied to is never sent again, since the server may have
 * acted on it. What could not be sent yet waits, in order, for as long as its time-out says.
 */
export class Messages {
  private waiting: (() => void)[] = [];
  private readonly lastOf = new Map<string, Promise<unknown>>();
  private csrf: Promise<string> | undefined;
  private sent = 0;

  constructor(
    private readonly configuration: Configuration,
    private readonly connection: Connection,
  ) {
    connection.taps.push({ opened: () => this.flush() });
  }

  /** Rejects with a `CallError`. */
  call(message: Message, { timeout = TIMEOUT }: CallOptions = {}): Promise<unknown> {
    return new Promise((resolve, reject) => {
      let isSent = false;
      let isOver = false;
      const end = ({ data, error }: Reply): void => {
        isOver = true;
        timer.clear();
        if (error) reject(failure(error, message.topic));
        else resolve(unwrapped(data));
      };
      const timer = new Timer(() => end({ error: { code: isSent ? "timeout" : "offline", message: "no answer came in time" } }));
      timer.set(timeout);
      this.waiting.push(() => {
        if (isOver) return;
        isSent = true;
        this.deliver(message).then(end, (error: Error) => end({ error: { code: "offline", message: error.message } }));
      });
      if (this.waiting.length > MOST_WAITING) {
        this.waiting.pop();
        end({ error: { code: "busy", message: "too many messages wait for a connection" } });
      }
      this.flush();
    });
  }

  /** Sends what waits, if there is a way. A page that only sends needs no stream. */
  private flush(): void {
    if (!this.connection.isOpen && this.connection.isWanted) return;
    const ready = this.waiting;
    this.waiting = [];
    for (const send of ready) send();
  }

  /** Messages to one topic go one after the other. */
  private deliver(message: Message): Promise<Reply> {
    const { transport, isOpen } = this.connection;
    if (isOpen && transport?.send) return transport.send(message);
    const { topic } = message;
    const posted = (this.lastOf.get(topic) ?? Promise.resolve()).then(() => this.post(message));
    const settled = posted.catch(() => {});
    this.lastOf.set(topic, settled);
    void settled.then(() => this.lastOf.get(topic) === settled && this.lastOf.delete(topic));
    return posted;
  }

  private async post({ topic, type, data }: Message): Promise<Reply> {
    const bytes = bytesOf(data);
    const init = bytes
      ? { body: encoded(topic, type, bytes, (this.sent += 1), true, Infinity)[0] as BodyInit, kind: "application/octet-stream" }
      : { body: JSON.stringify({ topic, type, data, connection: this.connection.id }), kind: "application/json" };
    for (let isAgain = false; ; isAgain = true) {
      const response = await request(this.configuration, this.url, {
        method: "POST",
        // One that hangs would hold up those behind it.
        ...(AbortSignal.timeout && { signal: AbortSignal.timeout(LOST_AFTER) }),
        body: init.body,
        headers: { "Content-Type": init.kind, "X-CSRFToken": await (this.csrf ??= this.csrfToken()) },
      });
      if (response.ok) return (await response.json()) as Reply;
      const [error = { code: `http-${response.status}`, message: response.statusText }] = await errorsOf(response);
      if (error.code === "signed-out") this.connection.failed(error); // What is open has not heard of it yet.
      if (error.code !== "csrf-failed" || isAgain) return { error };
      this.csrf = undefined; // A login makes a new one.
    }
  }

  private get url(): URL {
    return address(this.configuration, "send");
  }

  private async csrfToken(): Promise<string> {
    try {
      return ((await (await request(this.configuration, this.url, {})).json()) as { csrfToken: string }).csrfToken;
    } catch (error) {
      this.csrf = undefined;
      throw error;
    }
  }
}

function failure({ code, message, topic }: LiveError, sentTo: string): Error {
  return Object.assign(new Error(message || code), { name: "CallError", code, topic: topic ?? sentTo });
}
