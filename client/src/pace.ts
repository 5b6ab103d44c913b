/** Lets the browser paint and answer the user while a flood of events is handled. */

/** Milliseconds of work for each frame that is painted: at 60 Hz, half of the time. */
const STRETCH = 8;
/** Milliseconds to wait for a frame at most: what is out of sight is painted seldom. */
const LONGEST_REST = 50;

export class Pace {
  private until = 0;

  /** Something has come. If nothing was handled for a while, the browser had its turn. */
  begin(): void {
    const now = Date.now();
    if (now > this.until + STRETCH) this.until = now + STRETCH;
  }

  /** In a hidden page there is no frame to wait for. */
  get isDue(): boolean {
    return Date.now() > this.until && globalThis.document?.visibilityState === "visible";
  }

  /** Ends when a frame has been painted. Other turns are not enough: browsers put painting off for them, up to 100 ms. */
  async rest(): Promise<void> {
    await new Promise((done) => {
      requestAnimationFrame(() => setTimeout(done));
      setTimeout(done, LONGEST_REST);
    });
    this.until = Date.now() + STRETCH;
  }
}
