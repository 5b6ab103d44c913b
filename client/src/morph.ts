/**
 * Makes one part of the page look like a fresh copy of it, in place: what did not change is not touched, and what
 * the user is doing (focus, selection, typing, an opened `<details>`, scrolling, playing media) goes on.
 */

import { KEEP, pairs } from "./morph-pairs.js";
import { keepUserState, move } from "./user-state.js";

/** Scripts that could run, and what stands in for them. They neither come with a fresh copy nor go with the old. */
export const CODE = "noscript, script:not([type*=json]):not([type*=html]):not([type*=template])";

/** Fields whose content is the user's while they are in it. */
const EDITABLE = "input, textarea, select, [contenteditable]";

/** Turns the children of `current` into those of `fresh`, which stays as it is. */
export function morphChildren(current: Element, fresh: Element): void {
  const restore = keepUserState(current);
  const fragile = [document.activeElement, ...current.querySelectorAll("iframe, audio, video")];
  syncChildren(current, fresh, (node) => fragile.some((element) => node.contains(element)));
  restore();
}

/** @param isPinned whether a node would lose something if it were taken out of the document for a moment */
function syncChildren(current: Element, fresh: Element, isPinned: (node: Node) => boolean): void {
  const before = [...current.childNodes].filter((node) => !isElement(node) || !node.matches(CODE));
  const wanted = [...fresh.childNodes];
  const paired = pairs(before, wanted);
  const staying = new Set<Node | null>(paired.values());
  for (const node of before) {
    if (!staying.has(node) && !(isElement(node) && node.hasAttribute(KEEP))) node.remove();
  }

  // Everything before `place` is as it shall be.
  let place = current.firstChild;
  for (const node of wanted) {
    while (place && !staying.has(place)) place = place.nextSibling;
    const match = paired.get(node);
    if (!match) {
      current.insertBefore(document.importNode(node, true), place);
      continue;
    }
    if (match !== place && isPinned(match)) {
      const behind = match.nextSibling;
      while (place !== match) {
        const next: ChildNode = place!.nextSibling!;
        move(place!, behind);
        place = next;
      }
    }
    if (match === place) place = place.nextSibling;
    else move(match, place);
    syncNode(match, node, isPinned);
  }
}

function syncNode(current: Node, fresh: Node, isPinned: (node: Node) => boolean): void {
  if (!isElement(current)) {
    if (current.nodeValue !== fresh.nodeValue) current.nodeValue = fresh.nodeValue;
    return;
  }
  if (current.isEqualNode(fresh) || current.hasAttribute(KEEP) || isPlaying(current)) return;
  const isEdited = current === document.activeElement && current.matches(EDITABLE);
  syncAttributes(current, fresh as Element, isEdited);
  if (!isEdited) syncChildren(current, fresh as Element, isPinned);
}

function syncAttributes(current: Element, fresh: Element, isEdited: boolean): void {
  const isTheUsers = (name: string): boolean =>
    (name === "open" && current.matches("details, dialog")) || (name === "value" && isEdited);
  for (const { name } of [...current.attributes]) {
    if (!fresh.hasAttribute(name) && !isTheUsers(name)) current.removeAttribute(name);
  }
  for (const attribute of fresh.attributes) {
    const { name, value } = attribute;
    if (current.getAttribute(name) === value || isTheUsers(name)) continue;
    // A clone, since setAttribute() refuses names that a parser accepts, such as "@click".
    current.setAttributeNode(attribute.cloneNode() as Attr);
  }
}

function isPlaying(element: Element): boolean {
  return element instanceof HTMLMediaElement && !element.paused;
}

function isElement(node: Node): node is Element {
  return node.nodeType === 1;
}
