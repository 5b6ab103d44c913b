/** A client without a page, a clock and a server. */

import type { Live, LiveEvent } from "../../src/api.js";
import { createLive } from "../../src/client.js";
import * as more from "../../src/more.js";
import { FakeClock } from "./clock.js";
import { FakeServer } from "./server.js";

export interface Setup {
  clock: FakeClock;
  server: FakeServer;
  live: Live;
  /** What handlers threw. */
  reported: unknown[];
}

export function setUp(): Setup {
  const reported: unknown[] = [];
  Object.assign(globalThis, { reportError: (error: unknown) => reported.push(error) });
  console.warn = () => {};
  const setup = { clock: FakeClock.install(), server: FakeServer.install(), live: createLive(() => Promise.resolve(more)), reported };
  setup.live.configure({ eventsUrl: "https://site.test/live/events/" });
  return setup;
}

/** Longer than the client waits for more changes of topics. */
export const CHANGE = 300;

/** Handlers that write down `type data` of all they hear. */
export function recorder(): { heard: string[]; handlers: Record<string, (data: unknown, event: LiveEvent) => void> } {
  const heard: string[] = [];
  const write = (_data: unknown, { type, data }: LiveEvent): void => void heard.push(`${type} ${JSON.stringify(data)}`);
  return { heard, handlers: { "*": write, snapshot: write, reset: write, error: write } };
}
