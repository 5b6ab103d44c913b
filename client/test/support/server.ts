/** Stands in for `fetch`: a test answers each request when, and as slowly as, it likes. */

import { settle } from "./clock.js";

const encoder = new TextEncoder();

export class Exchange {
  readonly url: URL;
  readonly headers: Headers;
  private body: ReadableStreamDefaultController<Uint8Array> | undefined;
  private resolve!: (response: Response) => void;
  private reject!: (error: unknown) => void;
  readonly response: Promise<Response>;

  constructor(
    address: string | URL,
    readonly init: RequestInit,
  ) {
    this.url = new URL(address);
    this.headers = new Headers(init.headers);
    this.response = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    if (init.signal?.aborted) this.reject(init.signal.reason);
    init.signal?.addEventListener("abort", () => this.cut(init.signal!.reason));
  }

  get topics(): string[] {
    return this.url.searchParams.getAll("topic");
  }

  get cursor(): string | null {
    return this.headers.get("Last-Event-ID");
  }

  get aborted(): boolean {
    return this.init.signal?.aborted ?? false;
  }

  async answer(status: number, body: string | null, headers: Record<string, string> = {}, url?: string): Promise<void> {
    const response = new Response(body, { status, headers });
    Object.defineProperty(response, "url", { value: url ?? this.url.href });
    Object.defineProperty(response, "redirected", { value: url !== undefined });
    this.resolve(response);
    await settle();
  }

  /** Answers with an open stream. */
  async stream(): Promise<void> {
    const body = new ReadableStream<Uint8Array>({ start: (controller) => void (this.body = controller) });
    this.resolve(new Response(body, { headers: { "Content-Type": "text/event-stream; charset=utf-8" } }));
    await settle();
  }

  async send(...parts: (string | Uint8Array)[]): Promise<void> {
    for (const part of parts) this.body!.enqueue(typeof part === "string" ? encoder.encode(part) : part);
    await settle();
  }

  /** Answers with a stream that accepts every topic. */
  async open(id: string, { heartbeat = 20, retry = 2000, topics = this.topics } = {}): Promise<void> {
    await this.stream();
    await this.send(opening(topics, id, { heartbeat, retry }));
  }

  async end(): Promise<void> {
    this.body!.close();
    await settle();
  }

  async cut(reason: unknown = new TypeError("network error")): Promise<void> {
    this.reject(reason);
    try {
      this.body?.error(reason);
    } catch {
      // It has ended already.
    }
    await settle();
  }
}

export class FakeServer {
  readonly requests: Exchange[] = [];

  static install(): FakeServer {
    const server = new FakeServer();
    globalThis.fetch = (address, init = {}) => {
      const exchange = new Exchange(address as string | URL, init);
      server.requests.push(exchange);
      return exchange.response;
    };
    return server;
  }

  get last(): Exchange {
    return this.requests.at(-1)!;
  }

  /** Requests that the client has not given up. */
  get open(): Exchange[] {
    return this.requests.filter((request) => !request.aborted);
  }
}

export function opening(topics: string[], id: string, { heartbeat = 20, retry = 2000 } = {}): string {
  const data = JSON.stringify({ connection: `c-${id}`, heartbeat, topics });
  return `retry: ${retry}\nevent: stream-open\ndata: ${data}\n${id && `id: ${id}\n`}\n`;
}

export function event(topic: string, type: string, data: unknown, id: string): string {
  return `event: ${type}\ntopic: ${topic}\ndata: ${JSON.stringify(data)}\nid: ${id}\n\n`;
}

export function streamError(error: { topic?: string; code: string }): string {
  return `event: stream-error\ndata: ${JSON.stringify({ message: "", ...error })}\n\n`;
}
