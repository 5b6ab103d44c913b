/**
 * What a page needs only now and then, in a file of its own: WebSocket and polling, messages, more than one tab,
 * tokens.
 * It is fetched when it is needed first.
 */

import type { Configuration } from "./api.js";
import { BUILD } from "./build.js";
import { climb } from "./climb.js";
import type { Connection } from "./connection.js";
import { type Ladder, POLLS, SOCKET } from "./ladder.js";
import { Messages } from "./messages.js";
import { PollTransport } from "./poll.js";
import { Renewing } from "./renewing.js";
import type { Resume } from "./resume.js";
import type { StatusBoard } from "./status.js";
import { Tabs } from "./tabs.js";
import type { Topics } from "./topics.js";
import { WebSocketTransport } from "./websocket.js";

/** The parts of a client that is running already. */
export interface Parts {
  readonly build: string;
  readonly configuration: Configuration;
  readonly connection: Connection;
  readonly ladder: Ladder;
  readonly topics: Topics;
  readonly resume: Resume;
  readonly status: StatusBoard;
}

export interface More {
  readonly messages: Messages;
  readonly renewing: Renewing;
  /** @param name what all tabs of this user have in common */
  tabs(name: string): Tabs;
}

export function extend(parts: Parts): More {
  // A page that was opened before a deploy may be handed the file of after it.
  if (parts.build !== BUILD) throw new Error("the site's scripts have changed; reload the page");
  const { configuration, connection, ladder, topics, resume } = parts;
  const polls = new PollTransport(configuration);
  const messages = new Messages(configuration, connection);
  connection.transports[SOCKET] = new WebSocketTransport(configuration, resume);
  connection.transports[POLLS] = polls;
  climb(connection, ladder, topics, resume);
  const renewing = new Renewing(configuration, connection);
  return { messages, renewing, tabs: (name) => new Tabs(name, parts, polls, messages) };
}
