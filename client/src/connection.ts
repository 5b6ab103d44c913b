/**
 * The life of the page's one stream, whatever carries it: when to open it, when to give it up, when to come back.
 *
 * At most one attempt exists; aborting it silences it. Every opening runs from a timer, never from inside a handler:
 * so the frame that is being dispatched has been counted in the cursor before the next request takes the cursor.
 */

import type { LiveError, Reset } from "./api.js";
import type { Backoff } from "./backoff.js";
import { unwrapped } from "./frames.js";
import { type Ladder, SOCKET, STREAM } from "./ladder.js";
import type { Resume } from "./resume.js";
import { SilenceWatch } from "./silence.js";
import type { StatusBoard } from "./status.js";
import { Timer } from "./timer.js";
import { REFUSALS, type Topics } from "./topics.js";
import { CUT, type Ending, type Frame, type Transport } from "./transport.js";

/** Changes of topics within this many milliseconds make one request. */
const COALESCE = 10;
/** The least time between two requests that changes of topics cause, in milliseconds. */
const SPACING = 250;
/** A stream that lived for so many milliseconds was no failure. */
const PROVEN_AFTER = 5000;

/** Errors with which the server ends the stream for good. */
const ENDS_THE_STREAM = /^(signed-out|expired|disconnected)$/;

/** Why no stream shall be opened; empty while one may. */
type Halt = "" | "refused" | "closed" | "hidden";

export interface StreamOpen {
  readonly connection: string;
  /** Seconds. */
  readonly heartbeat: number;
  readonly topics: readonly string[];
}

/** Hears what the connection hears. */
export interface Tap {
  opened?(open: StreamOpen): void;
  frame?(frame: Frame, cursorBefore: string): void;
  ended?(ending: Ending): void;
}

export class Connection {
  /** The server's name for the open stream; empty while there is none. */
  id = "";
  isOpen = false;
  heartbeat = 0;
  requested = new Set<string>();
  /** What carries the stream, or did last. */
  transport: Transport | undefined;
  /** Carries the stream instead of a transport of our own: another tab. */
  shared: Transport | undefined;
  readonly taps: Tap[] = [];
  /** Asked for over the open stream, and not answered yet. */
  readonly pending = new Set<string>();
  private attempt: AbortController | undefined;
  step = STREAM;
  private halt: Halt = "";
  /** Whether the page is finding out who its visitor is. */
  private isRenewing = false;
  private openedAt = 0;

  private readonly change = new Timer(() => this.reconcile());
  private readonly retry = new Timer(() => this.open());
  private readonly silence = new SilenceWatch(() => this.ended(CUT));
  private readonly opening = new Timer(() => this.ended({ ...CUT, blocked: true }));
  private readonly proof = new Timer(() => this.proven());

  constructor(
    private readonly topics: Topics,
    private readonly resume: Resume,
    private readonly backoff: Backoff,
    /** By the steps of the ladder; those that are missing come with `loadMore`. */
    readonly transports: (Transport | undefined)[],
    private readonly loadMore: () => Promise<unknown>,
    private readonly ladder: Ladder,
    private readonly status: StatusBoard,
    /** Resolves with whether the page has fresh credentials; nothing where it gives none. */
    private readonly renew: (errors: readonly LiveError[]) => Promise<boolean | void> | undefined,
  ) {}

  /** Whether something is wanted and may be asked for. */
  get isWanted(): boolean {
    return !this.halt && this.topics.wanted.length > 0;
  }

  topicsChanged(): void {
    if (this.halt === "refused") this.halt = "";
    if (!this.change.pending) this.change.set(Math.max(COALESCE, this.openedAt + SPACING - Date.now()));
  }

  /** The page asks for a connection, whatever happened before. */
  connect(): void {
    this.halt = "";
    this.topics.pardon();
    if (this.attempt) this.topicsChanged();
    else this.retry.set(0);
  }

  /** @param moved whether the stream has another address now */
  reconfigured(moved: boolean): void {
    if (this.halt !== "refused" && !(moved && this.attempt)) return;
    this.halt = "";
    this.retry.set(0);
  }

  close(): void {
    this.haltAs("closed");
    this.status.set("stopped");
  }

  /** The page may go into the back/forward cache, which an open stream would keep it out of. */
  hide(): void {
    if (!this.halt) this.haltAs("hidden");
  }

  get isClosed(): boolean {
    return this.halt === "closed" || this.isHidden;
  }

  get isHidden(): boolean {
    return this.halt === "hidden";
  }

  show(): void {
    if (!this.isHidden) return;
    this.halt = "";
    this.restart();
  }

  offline(): void {
    if (!this.halt && this.topics.wanted.length) this.status.set("stale");
  }

  /** The network is back: what looks open is probably dead. */
  online(): void {
    this.ladder.remember(SOCKET);
    this.restart();
  }

  /** The user looks at the page again. A laptop that slept has missed its timers. */
  visible(): void {
    if (!this.attempt || this.silence.isDead) this.restart();
  }

  /** Tries now instead of after the wait, unless the server asked for the wait. */
  restart(): void {
    this.drop();
    if (!this.halt) this.retry.set(this.backoff.held);
  }

  private reconcile(): void {
    const { wanted } = this.topics;
    if (!wanted.length) this.rest();
    else if (this.halt) return;
    else if (this.attempt) this.adjust(wanted);
    else if (!this.retry.pending) this.open();
  }

  /** Brings an attempt up to date with what is wanted: over the open stream where that is possible. */
  private adjust(wanted: readonly string[]): void {
    const { topics } = this.resume.compose(wanted);
    const added = topics.filter((topic) => !this.requested.has(topic));
    const left = [...this.requested].filter((topic) => !topics.includes(topic));
    const { transport } = this;
    if (!this.shared && this.ladder.step(this.best) < this.step) return this.open();
    if (!added.length && !left.length) return;
    if (!transport?.change || !this.isOpen) return this.open();
    this.requested = new Set(topics);
    transport.change(this, added, left);
  }

  /** The step of the ladder that suits the topics best. */
  get best(): number {
    return this.topics.wantsSocket ? SOCKET : STREAM;
  }

  /** Nothing is left to ask for. */
  private rest(): void {
    this.drop();
    this.resume.clear();
    if (this.halt !== "closed") this.status.set(this.topics.isEmpty ? "idle" : "stopped");
  }

  private open(): void {
    if (this.isRenewing) return;
    this.drop();
    this.retry.clear();
    const { topics, cursor } = this.resume.compose(this.topics.wanted);
    if (!topics.length) return this.rest();

    const attempt = new AbortController();
    const { signal } = attempt;
    this.attempt = attempt;
    this.requested = new Set(topics);
    this.openedAt = Date.now();
    this.step = this.ladder.step(this.best);
    const transport = this.shared ?? this.transports[this.step];
    this.transport = transport;
    this.status.connecting();
    if (!transport) {
      this.loadMore().then(
        () => signal.aborted || this.open(),
        () => signal.aborted || this.ended({ ...CUT, blocked: true }),
      );
      return;
    }
    this.silence.expect();
    if (transport.limit) this.opening.set(transport.limit);

    const listener = {
      onBytes: () => this.silence.heard(),
      onFrame: (frame: Frame) => this.receive(frame),
    };
    transport.run({ topics, cursor, signal }, listener).then(
      (ending) => signal.aborted || this.ended(ending),
      (error) => signal.aborted || this.cut(error),
    );
  }

  private haltAs(reason: Halt): void {
    this.halt = reason;
    this.drop();
    this.retry.clear();
  }

  /** Gives up the running attempt, if there is one. */
  private drop(): void {
    this.attempt?.abort();
    this.attempt = undefined;
    this.id = "";
    this.isOpen = false;
    this.pending.clear();
    this.silence.stop();
    this.opening.clear();
    this.proof.clear();
    if (this.status.value === "live") this.status.lost();
  }

  /** The network's fault, as a rule; but `headers()` and handling a frame may fail, too. */
  private cut(error: unknown): void {
    console.warn("live:", error);
    this.ended(CUT);
  }

  private ended({ stop, retryAfter, errors, blocked }: Ending): void {
    // It was answered: if the waits have grown, that was while nobody could be reached.
    if (stop && !this.isOpen) this.backoff.reset();
    this.drop();
    this.status.lost();
    // The next transport tells whether this was the network's doing, or the server is down.
    if (blocked && !this.shared && this.ladder.blocked(this.step)) return this.retry.set(0);
    this.ladder.failed();
    if (stop) return void this.stop(errors);
    this.retry.set(this.backoff.next(retryAfter));
  }

  /** Gives up, unless the page can say anew who its visitor is. */
  private async stop(errors: readonly LiveError[]): Promise<void> {
    this.drop();
    this.isRenewing = true;
    const isNew = await this.renew(errors);
    this.isRenewing = false;
    if (isNew) return this.halt ? undefined : this.ended(CUT);
    this.haltAs("refused");
    this.status.set("stopped");
    for (const tap of this.taps) tap.ended?.({ ...CUT, stop: true, errors });
    for (const error of errors) this.topics.fail(error);
  }

  private receive(frame: Frame): void {
    const { cursor } = this.resume;
    if (frame.retry !== undefined) this.backoff.use(frame.retry);
    if (this.isOpen) this.status.set("live"); // After a false alarm of "offline".
    if (frame.event !== "stream-open") for (const tap of this.taps) tap.frame?.(frame, cursor);
    if (frame.data !== undefined && frame.event !== "keep-alive") this.dispatch(frame);
    if (frame.id !== undefined) this.resume.cursor = frame.id;
  }

  private dispatch({ event, topic = "", data: sent, id }: Frame): void {
    const data = unwrapped(sent);
    const type = event || "message";
    switch (type) {
      case "stream-open": {
        const open = data as StreamOpen;
        // Without an id there is no place yet to speak of: all are newcomers that wait for their snapshots.
        this.resume.opened(this.requested, new Set(open.topics), id ?? "");
        return this.opened(open);
      }
      case "stream-error":
        return this.failed(data as LiveError);
      case "stream-reset":
        return this.topics.tell("reset", { topic: (data as Reset).topic, type, data });
      case "stream-snapshot":
        return this.topics.tell("snapshot", { topic, type, data });
      default:
        this.proven();
        this.topics.deliver({ topic, type, data });
    }
  }

  opened(open: StreamOpen): void {
    this.id = open.connection;
    this.heartbeat = open.heartbeat;
    this.isOpen = true;
    this.opening.clear();
    this.silence.expect(open.heartbeat || undefined);
    this.backoff.release();
    this.proof.set(PROVEN_AFTER);
    if (!this.shared) this.ladder.opened(this.step);
    this.status.set("live");
    for (const tap of this.taps) tap.opened?.(open);
    this.topicsChanged(); // Some may have had to wait for this cursor.
  }

  failed(error: LiveError): void {
    const { code, topic, action } = error;
    if (action) return this.topics.fail(error);
    if (ENDS_THE_STREAM.test(code)) return void this.stop([{ ...error, topic: undefined }]);
    if (topic && REFUSALS.has(code)) {
      this.requested.delete(topic); // Should it be wanted again, that is a change.
    } else if (topic && code === "unavailable") {
      this.resume.lost(topic);
      if (!this.retry.pending) this.retry.set(this.backoff.next());
    }
    this.topics.fail(error);
    if (!this.topics.wanted.length) this.topicsChanged();
  }

  /** While a topic waits to be asked for again, a healthy stream says nothing about that topic. */
  private proven(): void {
    if (!this.retry.pending) this.backoff.reset();
  }
}
