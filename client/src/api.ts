/** The public face of the client: what a page may call, and what it gets. */

/**
 * - `idle`: nothing is subscribed to
 * - `connecting`: the first stream is being opened
 * - `live`: events arrive as they happen
 * - `stale`: the connection is lost; what the page shows may be old. The client is trying to come back.
 * - `stopped`: the client has given up, or was closed; `live.connect()` tries again
 */
export type Status = "idle" | "connecting" | "live" | "stale" | "stopped";

/** One thing that happened on a topic. */
export interface LiveEvent<Data = unknown> {
  /** The name of the topic, `orders/42`. */
  readonly topic: string;
  /** The type it was published with, or `stream-snapshot`, `stream-reset`, `stream-error`. */
  readonly type: string;
  readonly data: Data;
}

/** Called with what was published. Annotate `data` with the type your site publishes. */
export type Handler<Data = unknown> = {
  handle(data: Data, event: LiveEvent<Data>): void;
}["handle"];

/** Events in between cannot be had any more: forget what you knew of the topic. */
export interface Reset {
  readonly topic: string;
  /** `trimmed`, `epoch`, `unknown-cursor`, `not-resumable` or `overflow`. */
  readonly reason: string;
  /** Whether a snapshot follows. */
  readonly snapshot: boolean;
}

/** Why a topic, or the whole stream, is not subscribed to. */
export interface LiveError {
  /** A code of the protocol, `forbidden`; `http-<status>` where the answer named none. */
  readonly code: string;
  readonly message: string;
  /** Absent where the error belongs to the whole stream. */
  readonly topic?: string | undefined;
  /** `send` where it is about a message, not about the subscription. */
  readonly action?: string | undefined;
}

/**
 * What to do with events, by type. A handler that throws is reported and stops nobody else.
 * Events whose type is the name of one of the four below reach `"*"` only.
 */
export interface Handlers {
  /** Every event, after the handler of its own type. */
  "*"?: Handler | undefined;
  /** The state to start from: for newcomers, and after a reset. */
  snapshot?: Handler | undefined;
  reset?: Handler<Reset> | undefined;
  error?: Handler<LiveError> | undefined;
  [type: string]: Handler | undefined;
}

/** Why `call()` or `sendBinary()` got no reply. */
export interface CallError extends Error {
  readonly name: "CallError";
  /**
   * A code of the protocol (`forbidden`, `rejected`, `too-many-messages` …), or one of the client's own: `offline`
   * (never sent), `timeout` and `connection-lost` (sent; whether it was acted on is not known), `busy`.
   */
  readonly code: string;
  /** The topic that it was sent to. */
  readonly topic: string;
}

export interface CallOptions {
  /** Milliseconds to wait for the reply, and before that for a connection. Default: 10,000. */
  timeout?: number | undefined;
}

export interface SubscribeOptions {
  /** Start after this position: the `cursor` of an earlier subscription, or one printed into the page. */
  cursor?: string | undefined;
  /** Unsubscribes when it is aborted. */
  signal?: AbortSignal | undefined;
  /** `ws` for a topic that the page also sends to often: as `data-transport` says in a page. Default: `sse`. */
  transport?: "sse" | "ws" | undefined;
}

export interface Subscription {
  readonly topic: string | readonly string[];
  /**
   * - `pending`: not carried by an open stream (yet, or just now)
   * - `live`: all its topics are, but for refused ones
   * - `refused`: the server refused every topic of it
   * - `closed`: unsubscribed
   */
  readonly state: "pending" | "live" | "refused" | "closed";
  /** Where a later subscription can go on from, also once this one is closed; empty before anything is known. Opaque. */
  readonly cursor: string;
  unsubscribe(): void;
}

export interface Configuration {
  /** Address of the stream, absolute or relative to the page. */
  eventsUrl?: string | undefined;
  /** Asked for headers before each connection: a fresh token, for instance. */
  headers?: (() => Record<string, string> | Promise<Record<string, string>>) | undefined;
  /** Send cookies to another origin too. Default: false. */
  withCredentials?: boolean | undefined;
  /** Asked for a token before each request; sent as `Authorization: Bearer`. A WebSocket cannot send it: see `ticket`. */
  token?: (() => string | Promise<string>) | undefined;
  /** Asked for a short-lived ticket before each WebSocket; sent as `?ticket=`. */
  ticket?: (() => string | Promise<string>) | undefined;
  /**
   * Called when the session or the token is no longer good. Renew it and answer `true` to come back. Default: with
   * `token`, `ticket` or `headers` the client comes back, and asks them again; without it stops.
   */
  onRenew?: (() => boolean | Promise<boolean>) | undefined;
  /**
   * Tabs that give the same text share one connection: something that stands for the user's session. Empty: this
   * page has a connection of its own. Set it before the first subscription.
   */
  share?: string | undefined;
  /**
   * Says that the page is somebody's: what `{% live_client %}` prints as `data-known`. Such a page is never answered as
   * a mere visitor's; when its session has ended, it is told. Kept up to date from the cursors that it is given.
   */
  known?: string | undefined;
  /** How long, in milliseconds, the connection may be lost before the status says `stale`. Default: 2,500. */
  staleAfter?: number | undefined;
}

export interface ConnectOptions extends Configuration {
  /** The address that `django_live.urls` is included at, `https://api.example/live/`. */
  base?: string | undefined;
  /** `true`: send cookies to another origin. A function: as `token`. */
  credentials?: boolean | (() => string | Promise<string>) | undefined;
}

export interface Live {
  /**
   * Subscribes to one or more topics. All topics of a page share one stream.
   *
   * Without a cursor, a topic that is new to the stream starts at the `data-cursor` of a `<live-topic>` or
   * `<live-refresh>` of that topic on the page, or else as a newcomer: with a snapshot if the topic has one.
   * A topic that the stream already carries is joined where it is: no snapshot, no replay.
   *
   * @throws TypeError when no topic is named.
   */
  subscribe(topic: string | readonly string[], handlers: Handlers, options?: SubscribeOptions): Subscription;
  /**
   * Sends a message to a topic: JSON, or bytes. What goes wrong is told to the topic's `error` handlers.
   * Without a connection it waits, as `call()` does.
   */
  send(topic: string, type: string, data?: unknown): void;
  /**
   * Sends a message and resolves with what the server's `on_message` returned. Rejects with a `CallError`.
   * A message is sent once at most.
   */
  call<Result = unknown>(topic: string, type: string, data?: unknown, options?: CallOptions): Promise<Result>;
  /** As `call()`, with bytes. */
  sendBinary<Result = unknown>(
    topic: string,
    type: string,
    bytes: ArrayBuffer | ArrayBufferView,
    options?: CallOptions,
  ): Promise<Result>;
  readonly status: Status;
  /** Calls `listener` at every change of status; returns a function that ends that. */
  onStatus(listener: (status: Status) => void): () => void;
  /** The id of the open connection, which the server knows it by; empty while there is none. */
  readonly connection: string;
  /**
   * Changes what is given and keeps the rest. The classic script takes `eventsUrl` from its `data-events`.
   *
   * @throws TypeError when `eventsUrl` is no address.
   */
  configure(changes: Configuration): void;
  /**
   * Connects again after `stopped` or `close()`, and asks again for refused topics. Options are as in `configure()`.
   *
   * @throws TypeError when `base` is no address.
   */
  connect(options?: ConnectOptions): void;
  /** Closes the connection until `connect()`. Subscriptions stay, and go on from where they were. */
  close(): void;
}

declare global {
  interface Window {
    live: Live;
  }
  interface GlobalEventHandlersEventMap {
    "live:event": CustomEvent<LiveEvent>;
    "live:snapshot": CustomEvent<LiveEvent>;
    "live:reset": CustomEvent<LiveEvent<Reset>>;
    "live:error": CustomEvent<LiveEvent<LiveError>>;
    /** Dispatch it at a `<live-refresh>`, or at a list's `<template>`, to have it fetched again. */
    "live:refresh": Event;
    "live:refreshed": CustomEvent<null>;
  }
  interface DocumentEventMap {
    "live:status": CustomEvent<{ status: Status }>;
  }
}
