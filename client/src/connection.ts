/**
 * The life of the page's one stream: when to open it, when to give it up, when to come back.
 *
 * At most one attempt exists; aborting it silences it. Every opening runs from a timer, never from inside a handler:
 * so the frame that is being dispatched has been counted in the cursor before the next request takes the cursor.
 */

import type { LiveError, Reset } from "./api.js";
import type { Backoff } from "./backoff.js";
import type { Frame } from "./frames.js";
import { report } from "./report.js";
import type { Resume } from "./resume.js";
import { SilenceWatch } from "./silence.js";
import type { StatusBoard } from "./status.js";
import { Timer } from "./timer.js";
import { REFUSALS, type Topics } from "./topics.js";
import type { Ending, Transport } from "./transport.js";

/** Changes of topics within this many milliseconds make one request. */
const COALESCE = 10;
/** The least time between two requests that changes of topics cause, in milliseconds. */
const SPACING = 250;
/** A stream that lived for so many milliseconds was no failure. */
const PROVEN_AFTER = 5000;

const CUT: Ending = { stop: false, retryAfter: 0, errors: [] };

/** Errors with which the server ends the stream for good. */
const ENDS_THE_STREAM = new Set(["signed-out", "disconnected"]);

/** Why no stream shall be opened; empty while one may. */
type Halt = "" | "refused" | "closed" | "hidden";

interface StreamOpen {
  connection: string;
  heartbeat: number;
  topics: string[];
}

export class Connection {
  /** The server's name for the open stream; empty while there is none. */
  id = "";
  private attempt: AbortController | undefined;
  private requested = new Set<string>();
  private halt: Halt = "";
  private openedAt = 0;

  private readonly change = new Timer(() => this.reconcile());
  private readonly retry = new Timer(() => this.open());
  private readonly silence = new SilenceWatch(() => this.ended(CUT));
  private readonly proof = new Timer(() => this.proven());

  constructor(
    private readonly topics: Topics,
    private readonly resume: Resume,
    private readonly backoff: Backoff,
    private readonly transport: Transport,
    private readonly status: StatusBoard,
  ) {}

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

  show(): void {
    if (this.halt !== "hidden") return;
    this.halt = "";
    this.restart();
  }

  offline(): void {
    if (!this.halt && this.topics.wanted.length) this.status.set("stale");
  }

  /** The network is back: what looks open is probably dead. */
  online(): void {
    this.restart();
  }

  /** The user looks at the page again. A laptop that slept has missed its timers. */
  visible(): void {
    if (!this.attempt || this.silence.isDead) this.restart();
  }

  /** Tries now instead of after the wait, unless the server asked for the wait. */
  private restart(): void {
    this.drop();
    if (!this.halt) this.retry.set(this.backoff.held);
  }

  private reconcile(): void {
    const { wanted } = this.topics;
    if (!wanted.length) this.rest();
    else if (this.halt) return;
    else if (this.attempt ? this.differs(wanted) : !this.retry.pending) this.open();
  }

  private differs(wanted: readonly string[]): boolean {
    const { topics } = this.resume.compose(wanted);
    return topics.length !== this.requested.size || topics.some((topic) => !this.requested.has(topic));
  }

  /** Nothing is left to ask for. */
  private rest(): void {
    this.drop();
    this.resume.clear();
    if (this.halt !== "closed") this.status.set(this.topics.isEmpty ? "idle" : "stopped");
  }

  private open(): void {
    this.drop();
    this.retry.clear();
    const { topics, cursor } = this.resume.compose(this.topics.wanted);
    if (!topics.length) return this.rest();

    const attempt = new AbortController();
    const { signal } = attempt;
    this.attempt = attempt;
    this.requested = new Set(topics);
    this.openedAt = Date.now();
    this.silence.expect();
    this.status.connecting();

    const listener = {
      onBytes: () => this.silence.heard(),
      onFrame: (frame: Frame) => this.receive(frame),
    };
    this.transport.run({ topics, cursor, signal }, listener).then(
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
    this.silence.stop();
    this.proof.clear();
    if (this.status.value === "live") this.status.lost();
  }

  /** The network's fault, as a rule; but `headers()` and handling a frame may fail, too. */
  private cut(error: unknown): void {
    console.warn("live: connection lost:", error);
    this.ended(CUT);
  }

  private ended({ stop, retryAfter, errors }: Ending): void {
    this.drop();
    if (stop) return this.stop(errors);
    this.status.lost();
    this.retry.set(this.backoff.next(retryAfter));
  }

  private stop(errors: readonly LiveError[]): void {
    this.haltAs("refused");
    this.status.set("stopped");
    for (const error of errors) this.topics.fail(error);
  }

  private receive(frame: Frame): void {
    if (frame.retry !== undefined) this.backoff.use(frame.retry);
    if (this.id) this.status.set("live"); // After a false alarm of "offline".
    if (frame.data) this.dispatch(frame);
    if (frame.id !== undefined) this.resume.cursor = frame.id;
  }

  private dispatch({ event, topic, data: json, id }: Frame): void {
    const data = parsed(json);
    if (data === undefined) return;
    const type = event || "message";
    switch (type) {
      case "stream-open":
        return this.opened(data as StreamOpen, id);
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

  private opened({ connection, heartbeat, topics }: StreamOpen, id?: string): void {
    this.id = connection;
    this.silence.expect(heartbeat || undefined);
    this.backoff.release();
    this.proof.set(PROVEN_AFTER);
    // Without an id there is no place yet to speak of: all are newcomers that wait for their snapshots.
    this.resume.opened(this.requested, new Set(topics), id ?? "");
    this.status.set("live");
    this.topicsChanged(); // Some may have had to wait for this cursor.
  }

  private failed(error: LiveError): void {
    const { code, topic } = error;
    if (ENDS_THE_STREAM.has(code)) return this.stop([{ ...error, topic: undefined }]);
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

function parsed(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch (error) {
    report(error);
    return undefined;
  }
}
