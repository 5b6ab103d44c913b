/** Server-Sent Events over `fetch`, which, unlike EventSource, sees the status and sends headers. */

import type { Configuration, LiveError } from "./api.js";
import { isPassing, retryAfter } from "./backoff.js";
import { FrameParser } from "./frames.js";
import type { Ending, StreamListener, StreamRequest, Transport } from "./transport.js";

const ENDED: Ending = { stop: false, retryAfter: 0, errors: [] };

export class SseTransport implements Transport {
  constructor(private readonly configuration: Configuration) {}

  async run(request: StreamRequest, listener: StreamListener): Promise<Ending> {
    const { eventsUrl, headers, withCredentials } = this.configuration;
    if (!eventsUrl) return stopped("no-events-url", "call live.configure({ eventsUrl }) first");

    const url = new URL(eventsUrl);
    for (const topic of request.topics) url.searchParams.append("topic", topic);
    const response = await fetch(url, {
      headers: {
        ...(await headers?.()),
        Accept: "text/event-stream",
        ...(request.cursor && { "Last-Event-ID": request.cursor }),
      },
      credentials: withCredentials ? "include" : "same-origin",
      cache: "no-store",
      signal: request.signal,
    });
    if (response.status !== 200) return refusal(response);
    if (!/^text\/event-stream/i.test(response.headers.get("Content-Type") ?? "")) {
      return stopped("not-a-stream", `${response.url} answered with something else than a stream`);
    }
    await read(response.body!.getReader(), request.signal, listener);
    return ENDED;
  }
}

async function read(
  body: ReadableStreamDefaultReader<Uint8Array>,
  signal: AbortSignal,
  listener: StreamListener,
): Promise<void> {
  const parser = new FrameParser();
  for (;;) {
    const { done, value } = await body.read();
    if (done || signal.aborted) return;
    listener.onBytes();
    for (const frame of parser.push(value)) {
      listener.onFrame(frame);
      if (signal.aborted) return;
    }
  }
}

async function refusal(response: Response): Promise<Ending> {
  const { status } = response;
  if (isPassing(status)) return { stop: false, retryAfter: retryAfter(response.headers), errors: [] };
  const errors = await errorsOf(response);
  return errors.length ? { stop: true, retryAfter: 0, errors } : stopped(`http-${status}`, response.statusText);
}

async function errorsOf(response: Response): Promise<LiveError[]> {
  try {
    const { errors } = (await response.json()) as { errors?: LiveError[] };
    return errors ?? [];
  } catch {
    return []; // Some other part of the site answered, in its own way.
  }
}

function stopped(code: string, message: string): Ending {
  return { stop: true, retryAfter: 0, errors: [{ code, message }] };
}
