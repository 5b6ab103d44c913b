/** `<live-value data-topic="…">`: one value, and whether it rose or fell. */

import type { Live } from "../../api.js";
import type { Board } from "./board.js";
import { BoardElement } from "./element.js";
import { text } from "./format.js";

export function liveValue(live: Live): CustomElementConstructor {
  return class extends BoardElement {
    private earlier: unknown;

    constructor() {
      super(live);
    }

    protected override collect(): void {}

    protected override render(board: Board): void {
      const { field, places, unit } = this.dataset;
      const value = pick(board.value, field);
      const shown = this.querySelector<HTMLElement>("[data-part=value]") ?? this;
      const fresh = text(value, places, unit);
      if (shown.textContent !== fresh) shown.textContent = fresh;
      if (typeof value === "number" && typeof this.earlier === "number" && value !== this.earlier) {
        this.dataset["trend"] = value > this.earlier ? "up" : "down";
        const trend = this.querySelector("[data-part=trend]");
        if (trend) trend.textContent = value > this.earlier ? "\u25b2" : "\u25bc";
      }
      this.earlier = value;
    }
  };
}

/** A member of a value that has several, `memory.used`. */
function pick(value: unknown, path = ""): unknown {
  for (const name of path.split(".").filter(Boolean)) {
    if (typeof value !== "object" || value === null || !Object.prototype.hasOwnProperty.call(value, name)) return undefined;
    value = (value as Record<string, unknown>)[name];
  }
  return value;
}
