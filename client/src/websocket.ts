/** A WebSocket: many topics that come and go without reconnecting, messages both ways, bytes as bytes. */

import type { Configuration, LiveError } from "./api.js";
import { BinaryReader, bytesOf, encoded } from "./binary.js";
import type { Connection } from "./connection.js";
import { parsed } from "./frames.js";
import { address } from "./http.js";
import { Pace } from "./pace.js";
import type { Resume } from "./resume.js";
import {
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

/** There was no close frame: the connection broke. */
const CUT_OFF = 1006;

/** With more messages than this waiting, the page is slow, and shall not be spared: then the server notices. */
const MOST_WAITING = 100;

/** A socket that was cut so soon after it had opened, in milliseconds, was perhaps cut by the network. */
const SOON = 5000;
/** Many such cuts in a row are taken for the network's. */
const CUTS = 2;

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
  private cutsInARow = 0;
  private readonly waiting = new Map<unknown, Done>();

  constructor(
    private readonly configuration: Configuration,
    private readonly resume: Resume,
  ) {}

  async run(request: StreamRequest, listener: StreamListener): Promise<Ending> {
    const { signal } = request;
    const { ticket } = this.configuration;
    const url = address(this.configuration, "ws");
    url.protocol = url.protocol.replace("http", "ws");
    if (ticket) url.searchParams.set("ticket", await ticket());
    if (signal.aborted) return CUT;

    let socket: WebSocket;
    try {
      socket = new WebSocket(url, "live.1");
    } catch {
      return { ...CUT, blocked: true }; // A policy forbids it, or took it away.
    }
    socket.binaryType = "arraybuffer";
    const reader = new BinaryReader();
    const pace = new Pace();
    let isOpen = false;
    let openedAt = 0;
    let refusal: LiveError | undefined;
    let retryAfter = 0;

    const take = (frame: ServerFrame): void => {
      const { event, data, ref } = frame;
      if (event === "stream-open") {
        isOpen = true;
        this.socket = socket;
        // The socket's own opening names no topics: the stream is open once they are subscribed to.
        this.ask("subscribe", request.topics, request.cursor, (reply) => {
          const { topics, errors } = accepted(reply);
          openedAt = Date.now();
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

    return new Promise((resolve, reject) => {
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
      const read = async (message: string | ArrayBuffer): Promise<void> => {
        pace.begin();
        for (const line of typeof message === "string" ? message.split("\n") : [message]) {
          if (pace.isDue && waiting < MOST_WAITING) await pace.rest();
          if (signal.aborted) return;
          const frame = typeof line === "string" ? parsed(line) : reader.read(line);
          if (frame) take(frame as ServerFrame);
        }
      };
      // One after the other, and the close last.
      let turn = Promise.resolve();
      let waiting = 0;
      socket.addEventListener("message", ({ data }) => {
        if (signal.aborted) return;
        listener.onBytes();
        waiting += 1;
        turn = turn.then(() => read(data as string | ArrayBuffer)).finally(() => (waiting -= 1));
        turn.catch(reject);
      });
      const closed = ({ code, reason }: CloseEvent): void => {
        const { code: name, message } = refusal ?? {};
        if (code >= 4200 && code < 4300) end(stopped(name ?? ENDINGS[code - 4200] ?? `closed-${code}`, message ?? reason));
        else if (code >= 4100 && code < 4200) end(stopped(name ?? "signed-out", message ?? reason));
        else if (openedAt) end({ ...CUT, blocked: this.isCutAgain(code, openedAt) });
        else if (isOpen) end({ ...CUT, blocked: code === CUT_OFF });
        else end({ ...CUT, retryAfter, blocked: code < 4000 || code === FULL });
      };
      socket.addEventListener("close", (event) => void turn.then(() => closed(event)));
    });
  }

  /** Whether a network that lets sockets open does not let them live. */
  private isCutAgain(code: number, openedAt: number): boolean {
    const isSoon = code === CUT_OFF && Date.now() - openedAt < SOON;
    this.cutsInARow = isSoon ? this.cutsInARow + 1 : 0;
    if (this.cutsInARow < CUTS) return false;
    this.cutsInARow = 0;
    return true;
  }

  change(connection: Connection, added: readonly string[], left: readonly string[]): void {
    const { resume } = this;
    if (left.length) this.ask("unsubscribe", left, "", () => {});
    resume.carried = new Set([...resume.carried].filter((topic) => !left.includes(topic)));
    if (!added.length) return;

    const starts = new Set(added.map((topic) => resume.positionOf(topic)));
    const cursor = [...starts].filter(Boolean).join(",");
    for (const topic of added) connection.pending.add(topic);
    // Where this socket ends before the reply, the reply never comes.
    this.ask("subscribe", added, cursor, (reply) => {
      for (const topic of added) connection.pending.delete(topic);
      const { topics, errors } = accepted(reply);
      for (const topic of topics) resume.forget(topic);
      resume.carried = new Set([...resume.carried, ...topics]);
      // They go on from here, until the stream's own cursor speaks of them.
      resume.cursor = [resume.cursor, reply.id ?? cursor].filter(Boolean).join(",");
      for (const error of errors) connection.failed(error);
      const { id, heartbeat, requested } = connection;
      connection.opened({ connection: id, heartbeat, topics: [...requested] });
    });
  }

  private ask(action: "subscribe" | "unsubscribe", topics: readonly string[], cursor: string, done: Done): void {
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

/** What a reply to `subscribe` says. */
function accepted({ data }: Reply): { topics: string[]; errors: LiveError[] } {
  const { topics = [], errors = [] } = (data ?? {}) as { topics?: string[]; errors?: LiveError[] };
  return { topics, errors };
}
