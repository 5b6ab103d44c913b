/** A clock that stands still until a test moves it. Also stills Math.random. */

interface FakeTimer {
  readonly at: number;
  readonly action: () => void;
}

const realImmediate = setImmediate;

/** Lets everything that waits for promises, not for time, happen. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn += 1) await new Promise((done) => realImmediate(done));
}

export class FakeClock {
  now = Date.UTC(2026, 0, 1);
  /** What Math.random() answers. */
  chance = 0.5;
  private readonly timers = new Map<number, FakeTimer>();
  private lastHandle = 0;

  static install(): FakeClock {
    const clock = new FakeClock();
    const replaced = {
      setTimeout: (action: () => void, delay = 0) => clock.set(action, delay),
      clearTimeout: (handle: number) => void clock.timers.delete(handle),
    };
    Object.assign(globalThis, replaced);
    Date.now = () => clock.now;
    Math.random = () => clock.chance;
    return clock;
  }

  get pending(): number {
    return this.timers.size;
  }

  /** Moves on, running what falls due on the way, and all that follows from it. */
  async tick(milliseconds: number): Promise<void> {
    const end = this.now + milliseconds;
    await settle();
    while (await this.step(end));
    this.now = end;
  }

  /** Moves on to the next thing that falls due before `end`, if there is one, and runs it. */
  async step(end = Infinity): Promise<boolean> {
    const due = [...this.timers].filter(([, timer]) => timer.at <= end).sort(([, a], [, b]) => a.at - b.at);
    const [next] = due;
    if (!next) return false;
    const [handle, timer] = next;
    this.timers.delete(handle);
    this.now = Math.max(this.now, timer.at);
    timer.action();
    await settle();
    return true;
  }

  /** Moves on without running anything, as a sleeping laptop does. */
  sleep(milliseconds: number): void {
    this.now += milliseconds;
  }

  private set(action: () => void, delay: number): number {
    this.lastHandle += 1;
    this.timers.set(this.lastHandle, { at: this.now + Math.max(0, delay), action });
    return this.lastHandle;
  }
}
