/** Lets the browser paint and answer the user while a flood of events is handled. */

/** Milliseconds of work at a stretch. */
const STRETCH = 8;

export class Pace {
  private until = Date.now() + STRETCH;

  get isDue(): boolean {
    return Date.now() > this.until;
  }

  /** Ends once everything else that waits for the thread had its turn. Not a time-out: hidden pages slow those down. */
  async rest(): Promise<void> {
    await new Promise<void>((done) => {
      const { port1, port2 } = new MessageChannel();
      port1.addEventListener("message", () => {
        port1.close();
        done();
      });
      port1.start();
      port2.postMessage(0);
    });
    this.until = Date.now() + STRETCH;
  }
}
