/** Tells style sheets what became of the rows of a list, for as long as what they animate with it goes on. */

import { fieldInUse } from "./user-state.js";

export const CHANGE = "data-live-change";

/** Milliseconds: a click on the row's own button takes the field's focus first. */
const AFTER_USE = 500;

/** What became of rows; the latest word counts. */
export type RowChanges = Map<Element, "entered" | "moved" | "changed" | "left">;

/** Says it of all rows before it asks for the animations, so that styles are computed once. */
export function showChanges(changes: RowChanges): void {
  const earlier = new Set(document.getAnimations?.());
  for (const [row, change] of changes) {
    if (row.getAttribute(CHANGE) === change) changes.delete(row); // It goes on.
    row.setAttribute(CHANGE, change);
    row.toggleAttribute("inert", change === "left" && !isInUse(row));
  }
  for (const [row, change] of changes) {
    const finish = (): void => {
      if (row.getAttribute(CHANGE) !== change) return; // Something else became of it meanwhile.
      if (change !== "left") row.removeAttribute(CHANGE);
      else if (!isInUse(row)) row.remove();
      // Whoever writes in a row would lose what they wrote.
      else row.addEventListener("focusout", () => setTimeout(finish, AFTER_USE), { once: true });
    };
    const started = row.getAnimations?.({ subtree: true }).filter((animation) => !earlier.has(animation));
    if (started?.length) void Promise.allSettled(started.map((animation) => animation.finished)).then(finish);
    else finish();
  }
}

function isInUse(row: Element): boolean {
  return row.contains(fieldInUse() ?? document);
}
