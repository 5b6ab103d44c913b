/** Which node of the page goes on as which node of its fresh copy. */

/** Elements with this attribute are never touched. */
export const KEEP = "data-live-keep";

/**
 * Pairs two runs of siblings, from fresh to current. Nodes that are alike at both ends pair first, so that what was
 * inserted or removed in one place leaves all others alone; then nodes with the same id (or `data-live-key`, or the
 * same first id inside); then nodes of the same kind, in order.
 */
export function pairs<Current extends Node>(current: readonly Current[], fresh: readonly Node[]): Map<Node, Current> {
  const paired = new Map<Node, Current>();
  const free = new Set(current);
  const pair = (node: Node, match: Current): void => {
    paired.set(node, match);
    free.delete(match);
  };
  const pairWhileAlike = (currentRun: readonly Current[], freshRun: readonly Node[]): void => {
    for (let i = 0; i < freshRun.length; i += 1) {
      const match = currentRun[i];
      if (!match || !free.has(match) || paired.has(freshRun[i]!) || !match.isEqualNode(freshRun[i]!)) return;
      pair(freshRun[i]!, match);
    }
  };
  pairWhileAlike(current, fresh);
  pairWhileAlike([...current].reverse(), [...fresh].reverse());

  const byKey = new Map([...free].reverse().map((node) => [keyOf(node), node]));
  for (const node of fresh) {
    const key = keyOf(node);
    const match = key ? byKey.get(key) : undefined;
    if (match && free.has(match) && !paired.has(node)) pair(node, match);
  }
  for (const node of fresh) {
    if (paired.has(node) || ownKey(node)) continue;
    for (const candidate of free) {
      if (!isSameKind(candidate, node)) continue;
      pair(node, candidate);
      break;
    }
  }
  return paired;
}

function ownKey(node: Node): string {
  const key = node instanceof Element && (node.id || node.getAttribute("data-live-key"));
  return key ? `${node.nodeName} ${key}` : "";
}

function keyOf(node: Node): string {
  const inner = node instanceof Element && node.querySelector("[id]");
  return ownKey(node) || (inner ? `${node.nodeName} > ${inner.id}` : "");
}

/** Whether one may become the other: no two things that have a name of their own, and no two different fields. */
function isSameKind(current: Node, fresh: Node): boolean {
  if (current.nodeName !== fresh.nodeName || ownKey(current)) return false;
  const telling = current.nodeName === "INPUT" ? [KEEP, "type", "name"] : [KEEP];
  return telling.every((name) => attribute(current, name) === attribute(fresh, name));
}

function attribute(node: Node, name: string): string | null {
  return node instanceof Element ? node.getAttribute(name) : null;
}
