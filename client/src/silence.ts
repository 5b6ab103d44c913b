/** Notices a connection that is dead but does not know it. */

import { Timer } from "./timer.js";

/** Seconds; assumed until the server tells its own. */
const DEFAULT_HEARTBEAT = 20;
/** A connection that was silent for so many heartbeats is dead. */
const HEARTBEATS = 2.5;
/** Milliseconds between two looks: a machine that slept did not move its timers on, but its clock. */
const LOOK = 15_000;

export class SilenceWatch {
  private heardAt = 0;
  private limit = 0;
  private readonly timer = new Timer(() => (this.isDead ? this.onDead() : this.wait()));

  constructor(private readonly onDead: () => void) {}

  get isDead(): boolean {
    return this.left <= 0;
  }

  /** Begins to listen, or learns of another heartbeat, in seconds. */
  expect(heartbeat = DEFAULT_HEARTBEAT): void {
    this.limit = heartbeat * HEARTBEATS * 1000;
    this.heard();
    this.wait();
  }

  /** Cheap, since it happens with every chunk: the timer finds out later. */
  heard(): void {
    this.heardAt = Date.now();
  }

  stop(): void {
    this.timer.clear();
  }

  private get left(): number {
    return this.heardAt + this.limit - Date.now();
  }

  private wait(): void {
    this.timer.set(Math.min(this.left, LOOK));
  }
}
