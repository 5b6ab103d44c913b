/** `<live-presence topic="…" presence="…">`: who is in a topic. Without `topic` it only looks on. */

import type { Live, Subscription } from "../api.js";
import { followActivity } from "./presence/activity.js";
import { type Change, type Member, nameOf, Roster, type Snapshot, type State } from "./presence/roster.js";
import { defineElements } from "./shared/define.js";

export type { Member, State };

/** Milliseconds between two changes of what a screen reader reads. */
const QUIET = 3_000;
const IDLE_AFTER = 300;

/** What all elements of a page that show the same topic have in common: only the first gets a snapshot. */
interface Shared {
  readonly roster: Roster;
  readonly subscription: Subscription;
  readonly views: Set<() => void>;
}

const shared = new Map<string, Shared>();

/** Calls `view` when something has changed; returns the roster, and what ends it. */
function follow(live: Live, presence: string, view: () => void): [Roster, () => void] {
  let known = shared.get(presence);
  if (!known) {
    const roster = new Roster();
    const views = new Set<() => void>();
    const show = (): void => {
      for (const one of views) one();
    };
    const subscription = live.subscribe(presence, {
      snapshot: (data) => (roster.begin(data as Snapshot, false), show()),
      members: (data) => (roster.begin(data as Snapshot), show()),
      count: (data) => (roster.begin(data as Snapshot), show()),
      changed: (data) => (roster.change(data as Change), show()),
    });
    shared.set(presence, (known = { roster, subscription, views }));
  }
  const { roster, subscription, views } = known;
  views.add(view);
  if (roster.isBegun) view();
  const end = (): void => {
    views.delete(view);
    if (views.size) return;
    subscription.unsubscribe();
    shared.delete(presence);
  };
  return [roster, end];
}

function livePresence(live: Live): CustomElementConstructor {
  return class extends HTMLElement {
    private roster = new Roster();
    private ends: (() => void)[] = [];
    private known = new Map<string, Member>();
    private isBegun = false;
    private isDue = false;
    private announced = 0;
    private isResting = false;
    private state: State = "active";

    connectedCallback(): void {
      const presence = this.getAttribute("presence");
      if (!presence) return;
      const topic = this.getAttribute("topic");
      this.isBegun = false;
      const [roster, end] = follow(live, presence, () => this.showSoon());
      this.roster = roster;
      this.ends = [end];
      if (!topic) return;
      const options = { cursor: this.dataset["cursor"], transport: this.dataset["transport"] as "ws" };
      const subscription = live.subscribe(topic, {}, options);
      const tell = (): void => {
        if (live.status === "live") void live.call(presence, "state", this.state).catch(() => undefined);
      };
      const idle = Number(this.dataset["idle"] ?? IDLE_AFTER) * 1000;
      this.ends.push(
        () => subscription.unsubscribe(),
        followActivity(`live-presence ${topic}`, idle, (state) => {
          this.state = state;
          tell();
        }),
        // A new connection is taken for active.
        live.onStatus((status) => status === "live" && this.state !== "active" && tell()),
      );
    }

    disconnectedCallback(): void {
      for (const end of this.ends) end();
      this.ends = [];
    }

    /** Several events of a moment are shown at once. */
    private showSoon(): void {
      if (this.isDue) return;
      this.isDue = true;
      requestAnimationFrame(() => {
        this.isDue = false;
        if (this.isConnected) this.show();
      });
    }

    private show(): void {
      const { count, isLarge, members } = this.roster;
      this.toggleAttribute("data-large", isLarge);
      this.dataset["count"] = String(count);
      this.announce();
      this.list(members);
      const now = new Map(members.map((member) => [member.id, member]));
      const joined = this.isBegun ? members.filter(({ id }) => !this.known.has(id)) : [];
      const left = this.isBegun && !isLarge ? [...this.known.values()].filter(({ id }) => !now.has(id)) : [];
      this.known = now;
      this.isBegun = true;
      const detail = { count, members, joined, left, isLarge };
      this.dispatchEvent(new CustomEvent("live:presence", { detail, bubbles: true }));
    }

    /** The number. It is shown at once, and read out not at every coming and going. */
    private announce(): void {
      const place = this.querySelector<HTMLElement>("[data-live-count]");
      const text = (this.dataset["textCount"] ?? "%s").replace("%s", this.dataset["count"] ?? "");
      if (!place || place.textContent === text) return;
      const rest = this.announced + QUIET - Date.now();
      place.setAttribute("aria-live", rest > 0 ? "off" : "polite");
      place.textContent = text;
      if (rest <= 0) this.announced = Date.now();
      else if (!this.isResting) {
        this.isResting = true;
        setTimeout(() => {
          this.isResting = false;
          place.textContent = ""; // So that the same number is read out, too.
          this.announce();
        }, rest);
      }
    }

    /** The rows, of which those that stay are the same elements as before. */
    private list(members: readonly Member[]): void {
      const list = this.querySelector("[data-live-members]");
      const template = this.querySelector("template");
      if (!list || !template) return;
      const rows = new Map<string | undefined, HTMLElement>();
      for (const row of list.querySelectorAll<HTMLElement>("[data-member]")) rows.set(row.dataset["member"], row);
      let after: Element | null = null;
      for (const member of members) {
        const row = rows.get(member.id) ?? (template.content.firstElementChild!.cloneNode(true) as HTMLElement);
        rows.delete(member.id);
        this.fill(row, member);
        const place: Element | null = after ? after.nextElementSibling : list.firstElementChild;
        if (place !== row) list.insertBefore(row, place);
        after = row;
      }
      for (const row of rows.values()) row.remove();
    }

    private fill(row: HTMLElement, member: Member): void {
      row.dataset["member"] = member.id;
      row.dataset["state"] = member.state;
      const shown: Record<string, unknown> = { ...(member.info as object), state: this.wordFor(member.state) };
      shown["initial"] = [...nameOf(member)][0]?.toUpperCase() ?? "";
      for (const place of row.querySelectorAll<HTMLElement>("[data-show]")) {
        const text = String(shown[place.dataset["show"] ?? ""] ?? "");
        if (place.textContent !== text) place.textContent = text;
      }
    }

    private wordFor(state: State): string {
      return state === "active" ? "" : (this.getAttribute(`data-text-${state}`) ?? state);
    }
  };
}

defineElements({ "live-presence": livePresence });
