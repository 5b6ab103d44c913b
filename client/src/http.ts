/** Requests to the site's addresses, in the same way for every transport. */

import type { Configuration, LiveError } from "./api.js";
import { isPassing, retryAfter } from "./backoff.js";
import type { Ending } from "./transport.js";

/**
 * The address of the stream, or one beside it. It says whether the page is somebody's, who shall never be taken for a
 * mere visitor. Throws a TypeError where there is none.
 */
export function address({ eventsUrl, known }: Configuration, name?: string): URL {
  if (!eventsUrl) throw new TypeError("call live.connect()");
  const url = new URL(eventsUrl);
  if (name) url.pathname = url.pathname.replace(/[^/]*\/?$/, `${name}/`);
  if (known) url.searchParams.set("known", known.split(",")[0]!);
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
  const errors = await errorsOf(response);
  // A server that cannot stream, or holds as many streams as it may, still answers polls.
  const blocked = status === 501 || errors[0]?.code === "at-capacity";
  const stop = !isPassing(status);
  const told = errors[0] ? errors : [{ code: `http-${status}`, message: response.statusText }];
  return { stop, retryAfter: retryAfter(response.headers), errors: told, blocked };
}

export async function errorsOf(response: Response): Promise<LiveError[]> {
  // Some other part of the site may have answered, in its own way.
  const answer = (await response.json().catch(() => null)) as { errors?: LiveError[] } | null;
  return answer?.errors ?? [];
}
