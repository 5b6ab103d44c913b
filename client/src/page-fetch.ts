/** The page's own address, fetched again. */

import { isPassing, retryAfter } from "./backoff.js";
import { CODE } from "./morph.js";
import { Timer } from "./timer.js";

/** Milliseconds after which an answer is no longer waited for. */
const TIMEOUT = 30_000;

/** The answer does not tell what the page looks like now. */
export class Unusable extends Error {
  constructor(
    /** Whether another attempt may bring a better answer. */
    readonly passing: boolean,
    /** Milliseconds. */
    readonly retryAfter: number,
  ) {
    super();
  }
}

/** What stands for a part in the header: its id, and behind "=" what its element wishes to see. */
export function partName({ id, dataset: { wish } }: HTMLElement): string {
  return encodeURIComponent(id) + (wish ? `=${encodeURIComponent(wish)}` : "");
}

/**
 * Fetches the page, as this viewer may see it now. The header tells the server which parts are looked for.
 *
 * @throws Unusable; any other error is the network's.
 */
export async function fetchPage(parts: readonly HTMLElement[]): Promise<Document> {
  const address = new URL(location.href);
  address.hash = "";
  const attempt = new AbortController();
  const timeout = new Timer(() => attempt.abort());
  timeout.set(TIMEOUT);
  try {
    const response = await fetch(address, {
      headers: { Accept: "text/html", "X-Live-Refresh": parts.map(partName).join(",") },
      credentials: "same-origin",
      cache: "no-store",
      signal: attempt.signal,
    });
    if (!response.ok) throw new Unusable(isPassing(response.status), retryAfter(response.headers));
    if (isElsewhere(response, address) || !isHtml(response)) throw new Unusable(false, 0);
    return withoutCode(new DOMParser().parseFromString(await response.text(), "text/html"));
  } finally {
    timeout.clear();
  }
}

/** Redirected to a login page, for instance. */
function isElsewhere(response: Response, address: URL): boolean {
  if (!response.redirected) return false;
  const { origin, pathname } = new URL(response.url);
  return origin !== address.origin || pathname !== address.pathname;
}

function isHtml(response: Response): boolean {
  return /^text\/html/i.test(response.headers.get("Content-Type") ?? "");
}

/** Code could run once it is part of the page; a `<noscript>`, parsed without scripts, would show its content. */
function withoutCode(page: Document): Document {
  for (const element of page.querySelectorAll(CODE)) element.remove();
  return page;
}
