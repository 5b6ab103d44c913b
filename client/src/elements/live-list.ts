/**
 * `<template id="…" topics="…">` beside the rows of a list: the parser of HTML takes no element of ours out of its
 * place in a table, or in a select, but this one.
 */

import type { Live } from "../api.js";
import type { Refresher } from "../refresher.js";
import { partMembership } from "./live-refresh.js";
import type { Membership } from "./membership.js";

/** Subscribes for every list of the page, also for those that come later, while it is in the document. */
export function followLists(live: Live, refresher: Refresher): void {
  const joined = new Map<Node, Membership>();
  const look = (records: readonly MutationRecord[]): void => {
    for (const { type, target } of records) {
      if (type === "attributes") joined.get(target)?.change();
    }
    for (const [list, membership] of joined) {
      if (list.isConnected) continue;
      joined.delete(list);
      refresher.forget(list as HTMLElement);
      membership.leave();
    }
    for (const list of document.querySelectorAll<HTMLElement>("template[topics]")) {
      if (joined.has(list)) continue;
      const membership = partMembership(live, refresher, list);
      joined.set(list, membership);
      membership.join();
    }
  };
  new MutationObserver(look).observe(document, { childList: true, subtree: true, attributeFilter: ["topics"] });
  look([]);
}
