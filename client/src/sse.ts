/** Server-Sent Events over `fetch`, which, unlike EventSource, sees the status and sends headers. */

import type { Configuration } from "./api.js";
import { FrameParser, parsed } from "./frames.js";
import { address, refusal, request } from "./http.js";
import { Pace } from "./pace.js";
import { CUT, type Ending, stopped, type StreamListener, type StreamRequest, type Transport } from "./transport.js";

export class SseTransport implements Transport {
  /** A proxy that collects a response before it passes it on would never pass this one on. */
  readonly limit = 4000;

  constructor(private readonly configuration: Configuration) {}

  async run({ topics, cursor, signal }: StreamRequest, listener: StreamListener): Promise<Ending> {
    if (!this.configuration.eventsUrl) return stopped("no-events-url");

    const url = address(this.configuration);
    for (const topic of topics) url.searchParams.append("topic", topic);
    const headers = { Accept: "text/event-stream", ...(cursor && { "Last-Event-ID": cursor }) };
    const response = await request(this.configuration, url, { headers, signal });
    if (response.status !== 200) return refusal(response);
    if (!/^text\/event-stream/i.test(response.headers.get("Content-Type") ?? "")) {
      return stopped("not-a-stream", `${response.url} is no stream`);
    }
    await read(response.body!.getReader(), signal, listener);
    return CUT;
  }
}

async function read(
  body: ReadableStreamDefaultReader<Uint8Array>,
  signal: AbortSignal,
  listener: StreamListener,
): Promise<void> {
  const parser = new FrameParser();
  const pace = new Pace();
  for (;;) {
    const { done, value } = await body.read();
    if (done || signal.aborted) return;
    listener.onBytes();
    pace.begin();
    for (const frame of parser.push(value)) {
      if (pace.isDue) await pace.rest();
      if (signal.aborted) return;
      listener.onFrame({ ...frame, data: parsed(frame.data) });
      if (signal.aborted) return;
    }
  }
}
