/** Who is in a topic, put together from a snapshot and what is told after it. No page, no network. */

export type State = "active" | "idle" | "away";

export interface Member {
  /** The primary key of the user as text; of a visitor something that stands for the session. */
  readonly id: string;
  /** What the topic shows of them. */
  readonly info: unknown;
  readonly state: State;
}

interface Seat {
  readonly c: readonly string[];
  readonly i: unknown;
}

type Value = Seat | State;

export interface Snapshot {
  readonly version: number;
  /** Values with their versions; absent where there are too many members to name. */
  readonly entries?: Record<string, readonly [Value, number]>;
  readonly count?: number;
}

export interface Change {
  readonly version: number;
  readonly set: Record<string, Value>;
  readonly gone: readonly string[];
}

const STATES: readonly State[] = ["active", "idle", "away"];

/** A member has a seat in each process that they have connections to; `m <process> <member>`. What a connection says of
 * its user is `s <connection> <member>`. Of each, the newest version counts: a snapshot may hold what is told after it. */
export class Roster {
  private readonly entries = new Map<string, { value: Value | undefined; version: number }>();
  private version = 0;
  private counted: number | undefined;
  private isEmpty = false;

  /** A snapshot, or a new number of a large topic. */
  begin(snapshot: Snapshot, isNewer = true): void {
    if (isNewer && snapshot.version <= this.version) return;
    this.version = snapshot.version;
    this.isEmpty = snapshot.version === 0; // Nobody has ever been there.
    this.counted = snapshot.count;
    this.entries.clear();
    for (const [key, [value, version]] of Object.entries(snapshot.entries ?? {})) this.entries.set(key, { value, version });
  }

  change({ version, set, gone }: Change): void {
    if (this.counted !== undefined) return; // It tells of some, and the others are not known.
    for (const key of gone) this.put(key, undefined, version);
    for (const [key, value] of Object.entries(set)) this.put(key, value, version);
  }

  private put(key: string, value: Value | undefined, version: number): void {
    if (version > (this.entries.get(key)?.version ?? this.version)) this.entries.set(key, { value, version });
  }

  /** Whether anything is known. */
  get isBegun(): boolean {
    return this.version > 0 || this.isEmpty;
  }

  get isLarge(): boolean {
    return this.counted !== undefined;
  }

  get count(): number {
    return this.counted ?? this.members.length;
  }

  /** In order of their names, where they have any. */
  get members(): Member[] {
    const seats = new Map<string, Seat[]>();
    for (const [key, { value }] of this.entries) {
      if (!key.startsWith("m ") || value === undefined) continue;
      const id = memberOf(key);
      seats.set(id, [...(seats.get(id) ?? []), value as Seat]);
    }
    const members = [...seats].map(([id, own]) => ({ id, info: own[0]!.i, state: this.stateOf(id, own) }));
    return members.sort((a, b) => nameOf(a).localeCompare(nameOf(b)) || (a.id < b.id ? -1 : 1));
  }

  /** The best of all connections. */
  private stateOf(id: string, seats: readonly Seat[]): State {
    const said = seats.flatMap(({ c }) => c).map((connection) => this.entries.get(`s ${connection} ${id}`)?.value);
    return STATES.find((state) => said.some((one) => (one ?? "active") === state)) ?? "active";
  }
}

export function nameOf({ info }: Member): string {
  const name = (info as { name?: unknown } | null)?.name;
  return typeof name === "string" ? name : "";
}

function memberOf(key: string): string {
  return key.split(" ").slice(2).join(" ");
}
