/** The object that a page speaks to. Joins the parts. */

import type {
  CallError,
  CallOptions,
  Configuration,
  ConnectOptions,
  Handlers,
  Live,
  LiveError,
  SubscribeOptions,
  Subscription,
} from "./api.js";
import { Backoff } from "./backoff.js";
import { BUILD } from "./build.js";
import { Connection } from "./connection.js";
import { Ladder } from "./ladder.js";
import type { More, Parts } from "./more.js";
import { followPage, type Page, pageCursor, showStatus } from "./page.js";
import { Resume } from "./resume.js";
import { Seat } from "./seat.js";
import { SseTransport } from "./sse.js";
import { StatusBoard } from "./status.js";
import { type Subscriber, Topics } from "./topics.js";
import type { Message } from "./transport.js";

/** @param load fetches what a page needs only now and then */
export function createLive(load: () => Promise<{ extend(parts: Parts): More }>): Live {
  const configuration: Configuration = {};
  const status = new StatusBoard(configuration);
  const topics = new Topics();
  const resume = new Resume(pageCursor, configuration);
  const ladder = new Ladder();
  const transports = [undefined, new SseTransport(configuration)];
  const connection = new Connection(topics, resume, new Backoff(), transports, more, ladder, status, renew);
  let seat: Seat | undefined;
  let loading: Promise<More> | undefined;

  function more(): Promise<More> {
    const parts = { build: BUILD, configuration, connection, ladder, topics, resume, status };
    loading ??= load().then(({ extend }) => extend(parts));
    loading.catch(() => (loading = undefined));
    return loading;
  }

  /** Most pages have nothing to renew, and need not load what does. */
  function renew(errors: readonly LiveError[]): Promise<boolean | void> | undefined {
    const { token, ticket, headers, onRenew } = configuration;
    return (onRenew || token || ticket || headers) && more().then(({ renewing }) => renewing.ask(errors), () => {});
  }

  function subscribe(
    topic: string | readonly string[],
    handlers: Handlers,
    { cursor = "", signal, transport }: SubscribeOptions = {},
  ): Subscription {
    const names = [...new Set(typeof topic === "string" ? [topic] : topic)];
    if (!names.length || names.includes("")) throw new TypeError("name a topic");

    const subscriber: Subscriber = { topics: names, handlers, closed: false, socket: transport === "ws" };
    let leftAt = "";

    function position(): string {
      return [...new Set(names.map((name) => resume.positionOf(name)))].filter(Boolean).join(",");
    }

    function unsubscribe(): void {
      if (subscriber.closed) return;
      leftAt = position();
      subscriber.closed = true;
      signal?.removeEventListener("abort", unsubscribe);
      for (const gone of topics.remove(subscriber)) resume.forget(gone);
      connection.topicsChanged();
    }

    for (const name of names) resume.startAt(name, cursor);
    topics.add(subscriber);
    share();
    connection.topicsChanged();
    signal?.addEventListener("abort", unsubscribe);
    if (signal?.aborted) unsubscribe();

    return {
      topic,
      get state() {
        if (subscriber.closed) return "closed";
        const wanted = names.filter((name) => topics.wants(name));
        if (!wanted.length) return "refused";
        return connection.isOpen && wanted.every((name) => resume.carries(name)) ? "live" : "pending";
      },
      get cursor() {
        return subscriber.closed ? leftAt : position();
      },
      unsubscribe,
    };
  }

  function configure(changes: Configuration): void {
    const eventsUrl = changes.eventsUrl ?? configuration.eventsUrl;
    const absolute = eventsUrl && new URL(eventsUrl, globalThis.document?.baseURI).href;
    const moved = absolute !== configuration.eventsUrl;
    Object.assign(configuration, changes, { eventsUrl: absolute });
    connection.reconfigured(moved);
  }

  /** Takes part in the connection that all tabs share, where the page says whose it is and the browser can. */
  function share(): void {
    const { share: whose, eventsUrl } = configuration;
    if (!whose || connection.isClosed || typeof BroadcastChannel === "undefined" || !globalThis.navigator?.locks) return;
    seat ??= new Seat(`live1:${whose}:${eventsUrl}`, connection, more);
    seat.take();
  }

  async function post(message: Message, options?: CallOptions): Promise<unknown> {
    const { messages } = await more().catch((error: Error) => {
      throw Object.assign(error, { name: "CallError", code: "offline", topic: message.topic });
    });
    return messages.call(message, options);
  }

  function call<Result>(topic: string, type: string, data: unknown = null, options?: CallOptions): Promise<Result> {
    return post({ topic, type, data, asks: true }, options) as Promise<Result>;
  }

  const page: Page = {
    hide() {
      connection.hide();
      seat?.leave();
    },
    show() {
      if (!connection.isHidden) return;
      connection.show();
      if (seat) share();
    },
    online: () => connection.online(),
    offline: () => connection.offline(),
    visible() {
      connection.visible();
      seat?.check();
    },
  };

  const live: Live = {
    subscribe,
    configure,
    get status() {
      return status.value;
    },
    get connection() {
      return connection.id;
    },
    onStatus: (listener) => status.listen(listener),
    send(topic, type, data = null) {
      post({ topic, type, data, asks: false }).catch(({ code, message }: CallError) => topics.fail({ code, message, topic, action: "send" }));
    },
    call,
    sendBinary: call,
    connect({ base, credentials, ...changes }: ConnectOptions = {}) {
      if (base) changes.eventsUrl = `${base.replace(/\/?$/, "/")}events/`;
      if (typeof credentials === "function") changes.token = credentials;
      else if (credentials !== undefined) changes.withCredentials = credentials;
      configure(changes);
      connection.connect();
      if (!topics.isEmpty) share();
    },
    close() {
      connection.close();
      seat?.leave();
    },
  };
  if (typeof document !== "undefined") {
    followPage(page);
    showStatus(status);
  }
  return live;
}
