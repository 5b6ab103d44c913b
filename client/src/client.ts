/** The object that a page speaks to. Joins the parts. */

import type { Configuration, Handlers, Live, SubscribeOptions, Subscription } from "./api.js";
import { Backoff } from "./backoff.js";
import { Connection } from "./connection.js";
import { followPage, pageCursor, showStatus } from "./page.js";
import { Resume } from "./resume.js";
import { SseTransport } from "./sse.js";
import { StatusBoard } from "./status.js";
import { type Subscriber, Topics } from "./topics.js";

export function createLive(): Live {
  const configuration: Configuration = {};
  const status = new StatusBoard(configuration);
  const topics = new Topics();
  const resume = new Resume(pageCursor);
  const connection = new Connection(topics, resume, new Backoff(), new SseTransport(configuration), status);

  function subscribe(
    topic: string | readonly string[],
    handlers: Handlers,
    { cursor = "", signal }: SubscribeOptions = {},
  ): Subscription {
    const names = [...new Set(typeof topic === "string" ? [topic] : topic)];
    if (!names.length || names.includes("")) throw new TypeError("live.subscribe() needs the name of a topic");

    const subscriber: Subscriber = { topics: names, handlers, closed: false };
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
    connection.topicsChanged();
    signal?.addEventListener("abort", unsubscribe);
    if (signal?.aborted) unsubscribe();

    return {
      topic,
      get state() {
        if (subscriber.closed) return "closed";
        const wanted = names.filter((name) => topics.wants(name));
        if (!wanted.length) return "refused";
        return connection.id && wanted.every((name) => resume.carries(name)) ? "live" : "pending";
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
    connect: () => connection.connect(),
    close: () => connection.close(),
  };
  if (typeof document !== "undefined") {
    followPage(connection);
    showStatus(status);
  }
  return live;
}
