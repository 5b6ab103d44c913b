/** Against a real server that cuts its connections wherever it likes. Real time: waits only for conditions. */

import assert from "node:assert/strict";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { createLive } from "../src/client.js";
import { event, opening } from "./support/server.js";

const EVENTS = 400;

/** A topic that has `EVENTS` events: event n has the data n and the cursor n. */
class CuttingServer {
  connections = 0;
  cutInsideFrames = 0;
  private seed = 3;
  private readonly server: Server = createServer((request, response) => this.serve(request, response));

  async listen(): Promise<string> {
    await new Promise<void>((done) => this.server.listen(0, "127.0.0.1", done));
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}/live/events/`;
  }

  close(): void {
    this.server.closeAllConnections();
    this.server.close();
  }

  private random(below: number): number {
    this.seed = (this.seed * 48271) % 2147483647;
    return this.seed % below;
  }

  private serve(request: IncomingMessage, response: ServerResponse): void {
    this.connections += 1;
    const position = Number(request.headers["last-event-id"] ?? 0);
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    const frames = Array.from({ length: EVENTS - position }, (_, i) => {
      const n = position + i + 1;
      return event("räume/a", "gemacht", { n, text: "é€😀" }, String(n));
    });
    const bytes = Buffer.from(opening(["räume/a"], String(position)) + frames.join(""));
    const cut = 200 + this.random(2500);
    if (cut >= bytes.length) {
      response.write(bytes);
      return; // Everything was sent: stays open.
    }
    if (bytes.subarray(cut - 2, cut).toString() !== "\n\n") this.cutInsideFrames += 1;
    const middle = this.random(cut);
    response.write(bytes.subarray(0, middle));
    response.write(bytes.subarray(middle, cut), () => setImmediate(() => response.socket?.destroy()));
  }
}

test("every event comes once and in order, however often the connection is cut", { timeout: 60_000 }, async () => {
  const server = new CuttingServer();
  console.warn = () => {};
  const random = Math.random;
  Math.random = () => 0; // No wait between attempts.
  const live = createLive(() => import("../src/more.js"));
  live.configure({ eventsUrl: await server.listen() });
  const heard: number[] = [];
  await new Promise<void>((done) => {
    live.subscribe("räume/a", {
      gemacht: (data) => {
        const { n, text } = data as { n: number; text: string };
        assert.equal(text, "é€😀");
        heard.push(n);
        if (n === EVENTS) done();
      },
    });
  });
  live.close();
  server.close();
  Math.random = random;
  assert.deepEqual(
    heard,
    Array.from({ length: EVENTS }, (_, i) => i + 1),
  );
  assert.ok(server.connections > 10 && server.cutInsideFrames > 10, "the server did cut");
});
