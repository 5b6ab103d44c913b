/**
 * This tab's place among the tabs that share a connection. Alone, it leads and needs no more than this;
 * what several tabs say to each other is fetched once there are several.
 */

import type { Connection } from "./connection.js";
import type { More } from "./more.js";
import { report } from "./report.js";
import type { Tabs } from "./tabs.js";
import type { Transport } from "./transport.js";

/** Carries nothing: whether this tab leads is not known yet. */
const UNDECIDED: Transport = { run: () => new Promise(() => {}) };

export class Seat {
  private tabs: Tabs | undefined;
  private channel: BroadcastChannel | undefined;
  private release: (() => void) | undefined;
  private isTaken = false;

  constructor(
    private readonly name: string,
    private readonly connection: Connection,
    private readonly more: () => Promise<More>,
  ) {}

  take(): void {
    if (this.isTaken) return;
    this.isTaken = true;
    this.connection.shared = UNDECIDED;
    const channel = new BroadcastChannel(this.name);
    this.channel = channel;
    const isMine = (): boolean => this.channel === channel;
    channel.addEventListener("message", ({ data }) => "from" in data && this.release && this.move(this.release));
    navigator.locks
      .request(`${this.name}:`, { ifAvailable: true }, (lock) => {
        if (!isMine()) return;
        if (!lock) return this.move();
        this.lead();
        return new Promise<void>((done) => (this.release = done));
      })
      .catch(() => {
        // Another tab took the lead away; or there are no locks for this page.
        if (this.tabs) this.tabs.deposed();
        else if (isMine()) return this.release ? this.move() : this.lead();
      });
  }

  leave(): void {
    this.isTaken = false;
    this.channel?.close();
    this.channel = undefined;
    this.release?.();
    this.release = undefined;
    this.tabs?.leave();
    this.tabs = undefined;
    this.connection.shared = undefined;
  }

  /** Makes sure that somebody leads. */
  check(): void {
    this.tabs?.check();
  }

  private lead(): void {
    this.connection.shared = undefined;
    if (this.connection.isWanted) this.connection.restart();
  }

  /** To where several tabs sit. */
  private move(release?: () => void): void {
    const { channel } = this;
    this.more().then(
      (more) => {
        if (this.channel !== channel) return;
        channel!.close();
        this.channel = undefined;
        this.tabs = more.tabs(this.name);
        this.tabs.join(release);
      },
      (error) => {
        report(error);
        if (this.channel === channel) this.lead(); // With a connection of its own.
      },
    );
  }
}
