/** Who a page's visitor is, said anew: when the session or the token is no longer good. */

import type { Configuration, LiveError } from "./api.js";
import type { Connection } from "./connection.js";
import { report } from "./report.js";

/** Codes that fresh credentials may get over. */
const RENEWABLE = new Set(["signed-out", "expired", "not-authenticated", "http-401"]);

export class Renewing {
  /** Whether what comes next is opened with credentials that have just been renewed. */
  private renewed = false;

  constructor(
    private readonly configuration: Configuration,
    connection: Connection,
  ) {
    connection.taps.push({ opened: () => (this.renewed = false) });
  }

  /** Whether to come back after these errors: once, until something has opened again. */
  async ask(errors: readonly LiveError[]): Promise<boolean> {
    if (this.renewed || !errors.some(({ code }) => RENEWABLE.has(code))) return false;
    this.renewed = true;
    const { onRenew } = this.configuration;
    // Tokens are asked for before each connection anyway.
    try {
      return onRenew ? await onRenew() : true;
    } catch (error) {
      report(error);
      return false;
    }
  }
}
