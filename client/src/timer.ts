/** A time-out that can be set again, and asked whether it is set. */
export class Timer {
  private handle: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly action: () => void) {}

  get pending(): boolean {
    return this.handle !== undefined;
  }

  /** Runs the action once, `delay` milliseconds from now, instead of when it was set to before. */
  set(delay: number): void {
    this.clear();
    this.handle = setTimeout(() => {
      this.handle = undefined;
      this.action();
    }, delay);
  }

  clear(): void {
    clearTimeout(this.handle);
    this.handle = undefined;
  }
}
