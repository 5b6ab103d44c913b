/** Stands in for `WebSocket`: a test is the server of each socket that the client opens. */

import { settle } from "./clock.js";

type Said = { action: string; ref?: number; topics?: string[]; cursor?: string } & Record<string, unknown>;

export class FakeSocket extends EventTarget {
  static readonly opened: FakeSocket[] = [];
  readonly said: (Said | Uint8Array)[] = [];
  readonly url: URL;
  closed = false;

  constructor(
    address: string | URL,
    readonly protocol: string,
  ) {
    super();
    this.url = new URL(address);
    FakeSocket.opened.push(this);
  }

  static install(): typeof FakeSocket {
    FakeSocket.opened.length = 0;
    Object.assign(globalThis, { WebSocket: FakeSocket });
    return FakeSocket;
  }

  static get last(): FakeSocket {
    return FakeSocket.opened.at(-1)!;
  }

  // What the client calls.

  send(message: string | Uint8Array): void {
    this.said.push(typeof message === "string" ? (JSON.parse(message) as Said) : message);
  }

  close(): void {
    this.closed = true;
  }

  // What the server does.

  get lastSaid(): Said {
    return this.said.at(-1) as Said;
  }

  /** Each argument is a message; an array is several frames in one. */
  async frames(...messages: (object | object[] | ArrayBuffer)[]): Promise<void> {
    for (const message of messages) {
      const lines = Array.isArray(message) ? message : [message];
      const data = message instanceof ArrayBuffer ? message : lines.map((line) => `${JSON.stringify(line)}\n`).join("");
      this.dispatchEvent(Object.assign(new Event("message"), { data }));
    }
    await settle();
  }

  /** Greets, and accepts every topic that is asked for. */
  async open(id?: string): Promise<void> {
    await this.frames({ event: "stream-open", data: { connection: "w1", heartbeat: 20, retry: 2000, topics: [] } });
    await this.accept(id);
  }

  /** Replies to the last subscription, in one message with what follows. */
  async accept(id?: string, ...following: object[]): Promise<void> {
    const { ref, topics } = this.lastSaid;
    await this.frames([{ event: "stream-reply", ref, data: { topics, errors: [] }, ...(id && { id }) }, ...following]);
  }

  async end(code: number, reason = ""): Promise<void> {
    this.dispatchEvent(Object.assign(new Event("close"), { code, reason }));
    await settle();
  }
}
