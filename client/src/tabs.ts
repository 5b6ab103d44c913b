/**
 * One connection for all tabs of a browser. The tab that holds a Web Lock leads: its own connection carries what every
 * tab wants. In the others this is the transport: what the leader hears comes over a BroadcastChannel.
 *
 * A follower joins as a server lets a subscriber join: it hears the leader first, then asks the server once, with its
 * own cursor, for all that it has not had; then it takes what it heard meanwhile and does not know yet. So neither
 * another leader nor a leader that lags can lose or double an event.
 */

import type { LiveError } from "./api.js";
import type { Connection, StreamOpen } from "./connection.js";
import type { Messages } from "./messages.js";
import type { Parts } from "./more.js";
import { acceptedOf, type PollTransport } from "./poll.js";
import type { Resume } from "./resume.js";
import { Timer } from "./timer.js";
import type { Subscriber, Topics } from "./topics.js";
import { CUT, type Ending, type Frame, type Message, type Reply, type StreamListener, type StreamRequest, type Transport } from "./transport.js";

/** Milliseconds after which a leader that does not answer is no leader. */
const ANSWERS_WITHIN = 2000;

/** From the leader to all. */
interface Told {
  /** The leader that speaks. */
  readonly by: string;
  /** The one tab that it is meant for. */
  readonly to?: string;
  readonly open?: StreamOpen;
  readonly frames?: readonly Relayed[];
  /** There is more, which the server has to be asked for. */
  readonly more?: boolean;
  readonly ending?: Ending;
  /** Its connection takes no more topics. */
  readonly full?: true;
  readonly ref?: number;
  readonly reply?: Reply;
}

/** From a tab to the leader. */
interface Asked {
  readonly from: string;
  readonly topics?: readonly string[];
  readonly cursor?: string;
  readonly socket?: boolean;
  readonly message?: Message;
  readonly ref?: number;
}

interface Relayed extends Frame {
  /** The entries of the cursor that this frame moved. */
  readonly moved: readonly string[];
}

interface Following {
  readonly request: StreamRequest;
  readonly listener: StreamListener;
  readonly end: (ending: Ending) => void;
  /** Where this tab is, by the key of the topic. */
  places: Map<string, string>;
  /** The topics that the server lets this tab have; undefined before it was asked. */
  accepted?: readonly string[];
  /** What was heard while the server is asked; undefined while this tab takes what comes. */
  heard: Relayed[] | undefined;
  /** Under way: the question to the server. */
  asking?: AbortController | undefined;
  isBehind?: boolean;
}

export class Tabs implements Transport {
  private readonly connection: Connection;
  private readonly topics: Topics;
  private readonly resume: Resume;
  private me = "";
  /** Fulfilled once others can tell from a lock whether this tab is there. */
  private alive = Promise.resolve();
  private channel: BroadcastChannel | undefined;
  /** Give back what this tab holds: its sign of life, and the lead or its place in the queue for it. */
  private readonly held: (() => void)[] = [];
  private isLeader = false;
  private leader = "";
  private following: Following | undefined;
  private readonly members = new Map<string, Subscriber>();
  private readonly replies = new Map<number, (reply: Reply) => void>();
  private lastRef = 0;
  private batch: Relayed[] = [];
  /** A leader that is frozen in the background, or hangs, is put off. */
  private readonly silent = new Timer(() => this.lock(true));

  constructor(
    private readonly name: string,
    { connection, topics, resume, status }: Parts,
    private readonly polls: PollTransport,
    private readonly messages: Messages,
  ) {
    this.connection = connection;
    this.topics = topics;
    this.resume = resume;
    connection.taps.push({
      opened: () => this.tell({ open: this.open }),
      frame: (frame, before) => this.members.size && this.relay(frame, before),
      ended: (ending) => this.tell({ ending }),
    });
    status.listen((value) => value === "stale" && this.tell({ ending: CUT }));
  }

  /** @param release gives back the lead, where this tab has it already */
  join(release?: () => void): void {
    this.me = Math.random().toString(36).slice(2);
    this.channel = new BroadcastChannel(this.name);
    this.channel.addEventListener("message", ({ data }) => this.hear(data as Told | Asked));
    this.alive = new Promise((done) => this.hold(this.me, {}, done));
    if (release) {
      this.held.push(release);
      this.isLeader = true;
      this.tell({});
    } else {
      this.connection.shared = this;
      this.connection.restart();
      this.lock(false);
    }
  }

  leave(): void {
    for (const release of this.held.splice(0)) release();
    this.channel?.close();
    this.channel = undefined;
    this.silent.clear();
    this.resign();
    this.connection.shared = undefined;
  }

  /** Makes sure that somebody leads. */
  check(): void {
    if (!this.following) return;
    this.ask({});
  }

  // -- the lead ---------------------------------------------------------------------------------

  private lock(steal: boolean): void {
    this.hold("", steal ? { steal } : {}, () => this.lead());
  }

  /** Holds a lock, once it is free, until it is given back or taken away. */
  private hold(name: string, options: LockOptions, got: () => void): void {
    const wait = new AbortController();
    let release = (): void => wait.abort();
    const back = (): void => release();
    this.held.push(back);
    const held = (): Promise<void> => {
      if (!this.held.includes(back)) return Promise.resolve();
      got();
      return new Promise((done) => (release = done));
    };
    navigator.locks
      .request(`${this.name}:${name}`, options.steal ? options : { signal: wait.signal }, held)
      .catch(() => this.held.includes(back) && this.deposed());
  }

  private lead(): void {
    this.silent.clear();
    if (this.isLeader) return;
    this.isLeader = true;
    this.connection.shared = undefined;
    this.tell({});
    this.connection.restart();
  }

  /** Another tab has taken the lead away. */
  deposed(): void {
    this.resign();
    this.connection.shared = this;
    this.lock(false);
    this.connection.restart();
  }

  private resign(): void {
    this.isLeader = false;
    for (const member of [...this.members.keys()]) this.drop(member);
  }

  private drop(member: string): void {
    const subscriber = this.members.get(member);
    if (!subscriber) return;
    this.members.delete(member);
    for (const gone of this.topics.remove(subscriber)) this.resume.forget(gone);
    this.connection.topicsChanged();
  }

  private tell(told: Omit<Told, "by">): void {
    if (this.isLeader) this.channel?.postMessage({ by: this.me, ...told });
  }

  private get open(): StreamOpen {
    const { id, heartbeat, requested, pending } = this.connection;
    // Those that the server has decided about.
    return { connection: id, heartbeat, topics: [...requested].filter((topic) => !pending.has(topic)) };
  }

  /** A tab asks the leader. */
  private serve({ from, topics, cursor = "", socket = false, message, ref }: Asked): void {
    this.tell({ to: from });
    if (message) {
      void this.messages.call(message).then(
        (data) => this.tell({ to: from, ref: ref!, reply: { data } }),
        ({ code, message, topic }: LiveError) =>
          this.tell({ to: from, ref: ref!, reply: { error: { code, message, topic } } }),
      );
    } else if (topics) {
      for (const topic of topics) this.resume.startAt(topic, cursor);
      const subscriber: Subscriber = { topics, handlers: {}, closed: false, socket };
      this.topics.add(subscriber);
      if (!this.members.has(from)) {
        // Granted when the tab is gone, however it went.
        void navigator.locks.request(`${this.name}:${from}`, () => this.drop(from));
      }
      this.drop(from);
      this.members.set(from, subscriber);
      this.connection.topicsChanged();
      if (this.connection.isOpen && topics.every((topic) => this.resume.carries(topic))) {
        this.tell({ to: from, open: this.open });
      }
    } else {
      this.connection.visible();
    }
  }

  private relay(frame: Frame, before: string): void {
    const { id, event, topic, data } = frame;
    if (event === "stream-error" && (data as LiveError).code === "too-many-topics") {
      // One connection cannot carry what all tabs want.
      this.tell({ full: true });
      for (const member of [...this.members.keys()]) this.drop(member);
    } else if (this.connection.transport?.batches && event !== "stream-error") {
      if (id === undefined ? event === "keep-alive" : id !== before) this.tell({ more: id !== undefined });
    } else {
      const known = before.split(",");
      const moved = id ? id.split(",").filter((entry) => !known.includes(entry)) : [];
      this.batch.push({ event, topic, data, moved });
      if (this.batch.length === 1) queueMicrotask(() => this.tell({ frames: this.batch.splice(0) }));
    }
  }

  // -- the others -------------------------------------------------------------------------------

  run(request: StreamRequest, listener: StreamListener): Promise<Ending> {
    return new Promise((resolve) => {
      const following: Following = {
        request,
        listener,
        places: placesOf(request.cursor),
        heard: [],
        end: (ending) => {
          following.asking?.abort();
          if (this.following === following) this.following = undefined;
          resolve(ending);
        },
      };
      this.following = following;
      request.signal.addEventListener("abort", () => following.end(CUT));
      void this.alive.then(() => this.following === following && this.follow(following));
    });
  }

  send(message: Message): Promise<Reply> {
    return new Promise((resolve) => {
      this.lastRef += 1;
      this.replies.set(this.lastRef, resolve);
      this.ask({ message, ref: this.lastRef });
    });
  }

  private follow(following: Following): void {
    following.asking?.abort();
    following.asking = undefined;
    following.heard = [];
    const { topics } = following.request;
    this.ask({ topics, cursor: cursorOf(following), socket: this.topics.wantsSocket });
  }

  private ask(asked: Omit<Asked, "from">): void {
    this.channel?.postMessage({ from: this.me, ...asked });
    if (!this.silent.pending) this.silent.set(ANSWERS_WITHIN);
  }

  private hear(message: Told | Asked): void {
    if ("from" in message) return void (this.isLeader && this.serve(message));
    const { by, to, open, frames, more, ending, full, ref, reply } = message;
    if (this.isLeader || (to && to !== this.me)) return;
    this.silent.clear();
    const { following } = this;
    if (by !== this.leader) {
      this.leader = by;
      if (following) this.follow(following);
    }
    if (full) {
      this.leave();
      this.connection.restart();
    } else if (reply) {
      this.replies.get(ref!)?.(reply);
      this.replies.delete(ref!);
    } else if (!following) {
      if (open && this.connection.isWanted) this.connection.restart();
    } else {
      following.listener.onBytes();
      if (open) this.openedBy(open, following);
      if (more) this.catchUp(following);
      if (ending) following.end(ending);
      for (const frame of frames ?? []) {
        if (following.asking) following.heard?.push(frame);
        if (!following.heard) take(frame, following);
      }
    }
  }

  private openedBy(open: StreamOpen, following: Following): void {
    const { request, accepted, listener } = following;
    if (!request.topics.every((topic) => open.topics.includes(topic))) return;
    if (following.heard) this.catchUp(following, open);
    else listener.onFrame({ event: "stream-open", data: { ...open, topics: accepted }, id: cursorOf(following) });
  }

  /** Asks the server for what this tab has not had. */
  private catchUp(following: Following, open?: StreamOpen): void {
    if (following.asking) {
      following.isBehind = true;
      return;
    }
    const { request, listener } = following;
    const asking = new AbortController();
    following.asking = asking;
    following.heard ??= [];
    following.isBehind = false;
    const { signal } = asking;
    const onAnswer = (frames: readonly Frame[], cursor: string): void => {
      if (open) {
        following.accepted = acceptedOf(request.topics, frames);
        const data = { ...open, topics: following.accepted };
        listener.onFrame({ event: "stream-open", data, id: cursorOf(following) });
        open = undefined;
      }
      for (const frame of frames) if (!signal.aborted) listener.onFrame(frame);
      if (signal.aborted) return;
      following.places = placesOf(cursor);
      listener.onFrame({ id: cursor });
    };
    this.polls.catchUp({ topics: request.topics, cursor: cursorOf(following), signal }, onAnswer).then(
      (ending) => {
        if (signal.aborted) return;
        if (ending) return following.end(ending);
        following.asking = undefined;
        const heard = following.heard!;
        following.heard = undefined;
        for (const frame of heard) if (!signal.aborted) take(frame, following);
        if (following.isBehind) this.catchUp(following);
      },
      () => signal.aborted || following.end(CUT),
    );
  }
}

function take(frame: Relayed, following: Following): void {
  const { request, listener, places } = following;
  const { event, data, moved } = frame;
  const isOwn = event?.startsWith("stream-");
  const topic = frame.topic || (isOwn && (data as { topic?: string }).topic) || "";
  const isMine = request.topics.includes(topic);
  if (topic && !isMine) return;
  if (moved.length && moved.every((entry) => isKnown(entry, places))) return;
  for (const entry of moved) if (isMine || places.has(keyOf(entry))) places.set(keyOf(entry), entry);
  listener.onFrame({ ...frame, id: cursorOf(following) });
}

// A cursor is a list of entries, `key.epoch.offset.seal` or, without history, `key.seal`: one for each topic.

function keyOf(entry: string): string {
  return entry.split(".")[0]!;
}

function placesOf(cursor: string): Map<string, string> {
  const places = new Map<string, string>();
  for (const entry of cursor.split(",")) if (entry && !places.has(keyOf(entry))) places.set(keyOf(entry), entry);
  return places;
}

function cursorOf({ places }: Following): string {
  return [...places.values()].join(",");
}

/** Whether what led to this place was had already. */
function isKnown(entry: string, places: ReadonlyMap<string, string>): boolean {
  const [key, epoch, offset, seal] = entry.split(".");
  const [, knownEpoch, knownOffset] = places.get(key!)?.split(".") ?? [];
  return seal !== undefined && epoch === knownEpoch && Number(offset) <= Number(knownOffset);
}
