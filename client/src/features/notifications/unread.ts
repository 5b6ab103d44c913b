/** What of an inbox is unread: the same whatever is told twice, or again although it was in the page. */

export interface Read {
  /** Null: all of them, up to `newest`. */
  readonly ids: readonly number[] | null;
  readonly newest: number;
  /** How many are left then; so many as are counted, or more. */
  readonly unread: number;
}

export class Unread {
  private readonly ids: Set<number>;
  /** There are as many as are counted, and maybe more that nobody has named. */
  private isFull: boolean;
  /** Of those that were not named: how many are unread. */
  private unnamed = 0;

  constructor(
    ids: readonly number[],
    private readonly most = Infinity,
  ) {
    this.ids = new Set(ids);
    this.isFull = ids.length >= most;
  }

  get count(): number {
    return this.isFull ? this.most : this.ids.size + this.unnamed;
  }

  add(id: number): void {
    this.ids.add(id);
  }

  remove({ ids, newest, unread }: Read): void {
    if (ids) {
      for (const id of ids) if (!this.ids.delete(id) && this.unnamed) this.unnamed -= 1;
    } else {
      for (const id of this.ids) if (id <= newest) this.ids.delete(id);
      this.unnamed = 0;
    }
    if (this.isFull && unread < this.most) {
      this.isFull = false;
      this.unnamed = ids ? Math.max(0, unread - this.ids.size) : 0;
    }
  }
}
