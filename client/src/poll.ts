/** Polling: the same frames, one answer at a time. Held by the server where it can. */

import type { Configuration, LiveError } from "./api.js";
import { address, refusal, request } from "./http.js";
import { Timer } from "./timer.js";
import { REFUSALS } from "./topics.js";
import { CUT, type Ending, type Frame, type StreamListener, type StreamRequest, type Transport } from "./transport.js";

/** Seconds that the server is asked to hold an answer for. */
const WAIT = 25;
/** Milliseconds after its wait that an answer is lost. */
const GRACE = 10_000;

const REFUSAL_OF_NONE: LiveError = { code: "", message: "" };

interface Answer {
  readonly frames: readonly Frame[];
  readonly cursor: string;
  /** Seconds. */
  readonly retry_after: number;
  readonly more: boolean;
}

export class PollTransport implements Transport {
  readonly limit = 10_000;
  readonly batches = true;

  constructor(private readonly configuration: Configuration) {}

  async run({ topics, cursor, signal }: StreamRequest, listener: StreamListener): Promise<Ending> {
    let place = cursor;
    let tag = "";
    let asked = topics;
    // The first is answered at once: it shows that this way is open.
    for (let wait = 0; !signal.aborted; wait = WAIT) {
      const response = await this.ask(asked, place, signal, wait, tag);
      const isNews = response.status !== 304;
      if (isNews && response.status !== 200) return refusal(response);
      const answer = isNews ? ((await response.json()) as Answer) : undefined;
      if (signal.aborted) break;
      listener.onBytes();
      // Polls have no such frame; the connection gets one all the same.
      const opened = !wait && { connection: "", heartbeat: 20, topics: acceptedOf(topics, answer!.frames) };
      listener.onFrame(opened ? { event: "stream-open", data: opened, id: place } : { event: "keep-alive" });
      for (const frame of answer?.frames ?? []) {
        listener.onFrame(frame);
        if (signal.aborted) return CUT;
        const { code, topic } = frame.event === "stream-error" ? (frame.data as LiveError) : REFUSAL_OF_NONE;
        if (REFUSALS.has(code)) asked = asked.filter((other) => other !== topic);
      }
      if (answer) {
        listener.onFrame({ id: (place = answer.cursor) });
        tag = response.headers.get("ETag") ?? "";
      }
      await pause(answer ? answer.retry_after : Number(response.headers.get("Retry-After")), signal);
      listener.onBytes();
    }
    return CUT;
  }

  /** Everything up to now, in one answer or several. Resolves with the ending if there is no such answer. */
  async catchUp(
    { topics, cursor, signal }: StreamRequest,
    onAnswer: (frames: readonly Frame[], cursor: string) => void,
  ): Promise<Ending | undefined> {
    for (let place = cursor, more = true; more && !signal.aborted; ) {
      const response = await this.ask(topics, place, signal);
      if (response.status !== 200) return refusal(response);
      const answer = (await response.json()) as Answer;
      if (signal.aborted) return CUT;
      ({ more, cursor: place } = answer);
      onAnswer(answer.frames, place);
    }
    return undefined;
  }

  private async ask(
    topics: readonly string[],
    cursor: string,
    signal: AbortSignal,
    wait = 0,
    tag = "",
  ): Promise<Response> {
    const url = address(this.configuration, "poll");
    for (const topic of topics) url.searchParams.append("topic", topic);
    if (wait) url.searchParams.set("wait", String(wait));
    const attempt = new AbortController();
    const lost = new Timer(() => attempt.abort());
    const give = (): void => attempt.abort();
    signal.addEventListener("abort", give);
    lost.set(wait * 1000 + GRACE);
    try {
      const headers = { ...(cursor && { "Last-Event-ID": cursor }), ...(tag && { "If-None-Match": tag }) };
      return await request(this.configuration, url, { headers, signal: attempt.signal });
    } finally {
      lost.clear();
      signal.removeEventListener("abort", give);
    }
  }
}

/** The topics that an answer does not refuse. */
export function acceptedOf(topics: readonly string[], frames: readonly Frame[]): string[] {
  const refused = frames.map(({ event, data }) => event === "stream-error" && (data as LiveError).topic);
  return topics.filter((topic) => !refused.includes(topic));
}

function pause(seconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((done) => {
    const end = (): void => {
      timer.clear();
      signal.removeEventListener("abort", end);
      done();
    };
    const timer = new Timer(end);
    timer.set(seconds * 1000);
    signal.addEventListener("abort", end);
  });
}
