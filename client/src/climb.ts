/** From a worse transport back to a better one, once the network lets it through. */

import type { Connection } from "./connection.js";
import { CLIMB_AFTER, type Ladder } from "./ladder.js";
import type { Resume } from "./resume.js";
import { Timer } from "./timer.js";
import type { Topics } from "./topics.js";

/** While the old transport goes on, the better one is opened beside it, and only once it is open is it changed to. */
export function climb(connection: Connection, ladder: Ladder, topics: Topics, resume: Resume): void {
  const next = new Timer(attempt);

  function attempt(): void {
    const { step } = connection;
    const transport = connection.transports[step - 1];
    if (!connection.isOpen || connection.shared || step <= connection.best || !transport) return;
    const trial = new AbortController();
    const limit = new Timer(() => done(false));

    function done(isOpen: boolean): void {
      if (trial.signal.aborted) return;
      trial.abort();
      limit.clear();
      // Whatever became of the connection meanwhile, it may open anew only from here.
      if (connection.step !== step || connection.shared || !connection.isOpen) return;
      ladder.remember(isOpen ? step - 1 : step);
      if (isOpen) connection.restart();
      else next.set(CLIMB_AFTER);
    }

    limit.set(transport.limit!);
    transport
      .run(
        { ...resume.compose(topics.wanted), signal: trial.signal },
        { onBytes() {}, onFrame: ({ event }) => event === "stream-open" && done(true) },
      )
      .then(
        () => done(false),
        () => done(false),
      );
  }

  connection.taps.push({
    opened() {
      if (connection.step <= connection.best || connection.shared) next.clear();
      else if (!next.pending) next.set(CLIMB_AFTER);
    },
  });
}
