/** A WebSocket: many topics that come and go without reconnecting, messages both ways, bytes as bytes. */

import type { Configuration, LiveError } from "./api.js";
import { BinaryReader, bytesOf, encoded } from "./binary.js";
import { parsed } from "./frames.js";
import { sibling } from "./http.js";
import {
  accepted,
  CUT,
  type Ending,
  type Frame,
  type Message,
  type Reply,
  stopped,
  type StreamListener,
  type StreamRequest,
  type Transport,
} from "./transport.js";

/** What a server that ends a socket for good calls the reason. */
const ENDINGS = ["disconnected", "protocol-broken", "cross-site", "unknown-version", "refused"];

const LOST: LiveError = { code: "connection-lost", message: "the connection was lost before the reply came" };

/** The server holds as many connections as it may, and answers polls. */
const FULL = 4005;

type Done = (reply: Reply) => void;

interface ServerFrame extends Frame {
  readonly ref?: unknown;
  readonly error?: LiveError;
}

export class WebSocketTransport implements Transport {
  /** A network that swallows sockets shall not keep the page waiting. */
  readonly limit = 2000;
  private socket: WebSocket | undefined;
  private lastRef = 0;
  private readonly waiting = new Map<unknown, Done>();

  constructor(private readonly configuration: Configuration) {}

  async run(request: StreamRequest, listener: StreamListener): Promise<Ending> {
    const { signal } = request;
    const { ticket } = this.configuration;
    const url = sibling(this.configuration, "ws");
    url.protocol = url.protocol.replace("http", "ws");
    if (ticket) url.searchParams.set("ticket", await ticket());
    if (signal.aborted) return CUT;

    const socket = new WebSocket(url, "live.1");
    socket.binaryType = "arraybuffer";
    const reader = new BinaryReader();
    let isOpen = false;
    let refusal: LiveError | undefined;
    let retryAfter = 0;

    const take = (frame: ServerFrame): void => {
      const { event, data, ref } = frame;
      if (event === "stream-open") {
        isOpen = true;
        this.socket = socket;
        // The socket's own opening names no topics: the stream is open once they are subscribed to.
        this.change("subscribe", request.topics, request.cursor, (reply) => {
          const { topics, errors } = accepted(reply);
          listener.onFrame({ event, data: { ...(data as object), topics }, id: reply.id ?? request.cursor });
          for (const error of errors) listener.onFrame({ event: "stream-error", data: error });
        });
      } else if (!isOpen && event === "stream-error") {
        refusal = data as LiveError; // The close that follows says whether to come back.
      } else if (event === "stream-reply") {
        const done = this.waiting.get(ref);
        this.waiting.delete(ref);
        done?.(frame);
      } else if (event === "stream-cursor") {
        listener.onFrame({ id: frame.id });
      } else if (event === "stream-end") {
        const { retry } = data as { retry: number };
        if (isOpen) listener.onFrame({ retry });
        else retryAfter = retry;
      } else {
        // From here, since timers sleep in hidden pages and this does not.
        if (event === "keep-alive") socket.send('{"action":"pong"}');
        listener.onFrame(frame);
      }
    };

    return new Promise((resolve) => {
      const end = (ending: Ending): void => {
        socket.close();
        if (this.socket === socket) {
          this.socket = undefined;
          for (const done of this.waiting.values()) done({ error: LOST });
          this.waiting.clear();
        }
        resolve(ending);
      };
      signal.addEventListener("abort", () => end(CUT));
      socket.addEventListener("message", ({ data }) => {
        if (signal.aborted) return;
        listener.onBytes();
        for (const line of typeof data === "string" ? data.split("\n") : [data]) {
          const frame = typeof line === "string" ? parsed(line) : reader.read(line);
          if (frame) take(frame as ServerFrame);
          if (signal.aborted) return;
        }
      });
      socket.addEventListener("close", ({ code, reason }) => {
        const { code: name, message } = refusal ?? {};
        if (code >= 4200 && code < 4300) end(stopped(name ?? ENDINGS[code - 4200] ?? `closed-${code}`, message ?? reason));
        else if (code >= 4100 && code < 4200) end(stopped(name ?? "signed-out", message ?? reason));
        else if (isOpen) end(CUT);
        else end({ ...CUT, retryAfter, blocked: code < 4000 || code === FULL });
      });
    });
  }

  change(action: "subscribe" | "unsubscribe", topics: readonly string[], cursor: string, done: Done): void {
    this.tell({ action, topics, ...(cursor && { cursor }) }, (reply) => {
      if (!reply.error) done(reply);
      else if (reply.error !== LOST) this.socket?.close(); // Begin anew, after a wait.
    });
  }

  send({ topic, type, data, asks }: Message): Promise<Reply> {
    return new Promise((resolve) => {
      const bytes = bytesOf(data);
      if (!bytes) {
        this.tell({ action: "send", topic, type, data }, asks && resolve);
      } else {
        const ref = this.expect(asks && resolve);
        for (const frame of encoded(topic, type, bytes, ref, asks)) this.socket!.send(frame as Uint8Array<ArrayBuffer>);
      }
      if (!asks) resolve({});
    });
  }

  private tell(message: object, done: Done | false): void {
    const ref = this.expect(done);
    this.socket?.send(JSON.stringify(done ? { ...message, ref } : message));
  }

  /** A number by which the reply is known. */
  private expect(done: Done | false): number {
    this.lastRef += 1;
    if (done) this.waiting.set(this.lastRef, done);
    return this.lastRef;
  }
}
