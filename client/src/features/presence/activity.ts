/** Whether somebody is at this browser: all its tabs together, since they may share one connection. */

import type { State } from "./roster.js";

/** Milliseconds between two looks, and between two words to the other tabs. */
const LOOK = 5_000;
/** Milliseconds without a tab in sight after which the user is away. */
const OUT_OF_SIGHT = 60_000;

interface Word {
  readonly input: number;
  readonly seen: number;
}

/** Calls `tell` with the state when it is another one; `idleAfter`: milliseconds without input. Returns what ends it. */
export function followActivity(name: string, idleAfter: number, tell: (state: State) => void): () => void {
  let input = Date.now();
  let seen = input;
  let told = 0;
  let state: State = "active";
  const others = typeof BroadcastChannel === "undefined" ? undefined : new BroadcastChannel(name);
  const isInSight = (): boolean => document.visibilityState === "visible";

  const look = (): void => {
    const now = Date.now();
    if (isInSight()) seen = now;
    const next: State = now - seen >= OUT_OF_SIGHT ? "away" : now - input >= idleAfter ? "idle" : "active";
    if (isInSight() && now - told >= LOOK) {
      told = now;
      others?.postMessage({ input, seen } satisfies Word);
    }
    if (next === state) return;
    state = next;
    tell(state);
  };
  const act = (): void => {
    const isBack = state !== "active" || Date.now() - input > LOOK;
    if (isInSight()) input = Date.now();
    if (isBack) look();
  };
  const hear = ({ data }: MessageEvent<Word>): void => {
    input = Math.max(input, data.input);
    seen = Math.max(seen, data.seen);
    look();
  };
  const INPUTS = ["pointermove", "pointerdown", "keydown", "wheel", "touchstart", "focus"];
  for (const type of INPUTS) addEventListener(type, act, { passive: true, capture: true });
  document.addEventListener("visibilitychange", act);
  others?.addEventListener("message", hear);
  const timer = setInterval(look, LOOK);
  return () => {
    for (const type of INPUTS) removeEventListener(type, act, { capture: true });
    document.removeEventListener("visibilitychange", act);
    others?.close();
    clearInterval(timer);
  };
}
