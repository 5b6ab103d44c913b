/** Requests to the site's addresses, in the same way for every transport. */

import type { Configuration, LiveError } from "./api.js";
import { isPassing, retryAfter } from "./backoff.js";
import { type Ending, stopped } from "./transport.js";

/** An address beside that of the stream. Throws a TypeError where there is none. */
export function sibling(configuration: Configuration, name: string): URL {
  const { eventsUrl } = configuration;
  if (!eventsUrl) throw new TypeError("call live.connect({ base }) first");
  const url = new URL(eventsUrl);
  url.pathname = url.pathname.replace(/[^/]*\/?$/, `${name}/`);
  return url;
}

/** `fetch` with the credentials that the site asks for. */
export async function request(configuration: Configuration, url: URL, init: RequestInit): Promise<Response> {
  const { headers, token, withCredentials } = configuration;
  return fetch(url, {
    ...init,
    headers: {
      ...(await headers?.()),
      ...(token && { Authorization: `Bearer ${await token()}` }),
      ...(init.headers as Record<string, string>),
    },
    credentials: withCredentials ? "include" : "same-origin",
    cache: "no-store",
  });
}

/** What an answer that is not the one hoped for means. */
export async function refusal(response: Response): Promise<Ending> {
  const { status } = response;
  if (isPassing(status)) return { stop: false, retryAfter: retryAfter(response.headers), errors: [] };
  const errors = await errorsOf(response);
  return errors.length ? { stop: true, retryAfter: 0, errors } : stopped(`http-${status}`, response.statusText);
}

export async function errorsOf(response: Response): Promise<LiveError[]> {
  try {
    const { errors } = (await response.json()) as { errors?: LiveError[] };
    return errors ?? [];
  } catch {
    return []; // Some other part of the site answered, in its own way.
  }
}
