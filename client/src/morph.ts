/**
 * Makes one part of the page look like a fresh copy of it, in place: what did not change is not touched, and what
 * the user is doing (focus, selection, typing, an opened `<details>`, scrolling, playing media) goes on.
 */

import { KEEP, pairs } from "./morph-pairs.js";
import { CHANGE, type RowChanges, showChanges } from "./rows.js";
import { fieldInUse, keepUserState, move } from "./user-state.js";

/** Scripts that could run, and what stands in for them. They neither come with a fresh copy nor go with the old. */
export const CODE = "noscript, script:not([type*=json]):not([type*=html]):not([type*=template])";

/** Turns the children of `current` into those of `fresh`, which stays as it is. */
export function morphChildren(current: Element, fresh: Element): void {
  const restore = keepUserState(current);
  const selection = getSelection();
  const selected = selection?.isCollapsed === false ? [selection.anchorNode, selection.focusNode] : [];
  const fragile = [document.activeElement, ...selected, ...current.querySelectorAll("iframe, audio, video")];
  const rows: RowChanges = new Map();
  syncChildren(current, fresh, { rows, isPinned: (node) => fragile.some((each) => node.contains(each)) });
  showChanges(rows);
  restore();
}

interface Work {
  readonly rows: RowChanges;
  /** Whether a node would lose something if it were taken out of the document for a moment. */
  readonly isPinned: (node: Node) => boolean;
}

function syncChildren(current: Element, fresh: Element, work: Work): void {
  const before = [...current.childNodes].filter((node) => !isElement(node) || !node.matches(CODE));
  const wanted = [...fresh.childNodes];
  const paired = pairs(before, wanted);
  const staying = new Set<Node | null>(paired.values());
  for (const node of before) {
    if (staying.has(node) || (isElement(node) && node.hasAttribute(KEEP))) continue;
    if (isRow(node)) work.rows.set(node, "left");
    else node.remove();
  }

  const after = wanted.map((node) => paired.get(node));
  const resting = unmoved(before, after, work.isPinned);
  const still = unmoved(before, after);
  // Everything before `place` is as it shall be.
  let place = current.firstChild;
  for (const node of wanted) {
    while (place && !staying.has(place)) place = place.nextSibling;
    const match = paired.get(node);
    if (!match) {
      const added = document.importNode(node, true);
      current.insertBefore(added, place);
      if (isRow(added)) work.rows.set(added, "entered");
      continue;
    }
    if (match === place || resting.has(match)) place = match.nextSibling;
    else move(match, place);
    // Those that made way for a pinned one did not change places.
    if (isRow(match) && !still.has(match)) work.rows.set(match, "moved");
    syncNode(match, node, work);
  }
}

interface Place {
  readonly node: Node;
  readonly from: number;
  readonly to: number;
  last?: Place | undefined;
}

/** The most elements that can stay for all to come into their new order; the pinned ones rather than others. */
function unmoved(
  before: readonly Node[],
  after: readonly (Node | undefined)[],
  isPinned?: (node: Node) => boolean,
): Set<Node> {
  const places = new Map(before.map((node, from) => [node, from]));
  let run = after.flatMap((node, to): Place[] =>
    node && isElement(node) ? [{ node, from: places.get(node)!, to }] : [],
  );
  for (const pin of run.filter(({ node }) => isPinned?.(node))) {
    // Only what comes before it, or behind it, in both orders can stay with it.
    if (run.includes(pin)) run = run.filter(({ from, to }) => (from - pin.from) * (to - pin.to) >= 0);
  }
  // Of all rising runs of n + 1 elements, `ends[n]` is the end of the one that ends lowest.
  const ends: Place[] = [];
  for (const place of run) {
    let length = ends.length;
    while (length && ends[length - 1]!.from > place.from) length -= 1;
    place.last = ends[length - 1];
    ends[length] = place;
  }
  const staying = new Set<Node>();
  for (let place = ends[ends.length - 1]; place; place = place.last) staying.add(place.node);
  return staying;
}

function syncNode(current: Node, fresh: Node, work: Work): void {
  if (!isElement(current)) {
    if (current.nodeValue !== fresh.nodeValue) current.nodeValue = fresh.nodeValue;
    return;
  }
  if (current.isEqualNode(fresh) || current.hasAttribute(KEEP) || isPlaying(current)) return;
  // Markup alone may differ each time: a form's token does.
  if (isRow(current) && current.textContent !== fresh.textContent) work.rows.set(current, "changed");
  const isEdited = current === fieldInUse();
  syncAttributes(current, fresh as Element, isEdited);
  if (!isEdited) syncChildren(current, fresh as Element, work);
}

function syncAttributes(current: Element, fresh: Element, isEdited: boolean): void {
  const isKept = (name: string): boolean =>
    (name === "open" && current.matches("details, dialog")) ||
    (name === "value" && isEdited) ||
    (name === CHANGE && current.getAttribute(name) !== "left");
  for (const { name } of [...current.attributes]) {
    if (!fresh.hasAttribute(name) && !isKept(name)) current.removeAttribute(name);
  }
  for (const attribute of fresh.attributes) {
    const { name, value } = attribute;
    if (current.getAttribute(name) === value || isKept(name)) continue;
    // A clone, since setAttribute() refuses names that a parser accepts, such as "@click".
    current.setAttributeNode(attribute.cloneNode() as Attr);
  }
}

function isPlaying(element: Element): boolean {
  return element instanceof HTMLMediaElement && !element.paused;
}

function isRow(node: Node): node is Element {
  return isElement(node) && node.hasAttribute("data-live-key");
}

function isElement(node: Node): node is Element {
  return node.nodeType === 1;
}
