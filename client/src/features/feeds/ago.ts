/**
 * `<live-ago><time datetime="…">28 Nov. 2026</time></live-ago>`: says how long ago it is, and keeps saying what is right.
 * What it says stands in a shadow tree: what ticks must not look as if the page had changed when it is fetched again.
 */

const UNITS: [Intl.RelativeTimeFormatUnit, number][] = [
  ["year", 31_557_600],
  ["month", 2_629_800],
  ["week", 604_800],
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
  ["second", 1],
];
const TICK = 1_000;

/**
 * How long ago, for people. A time that is not yet, by this machine's clock, is now: clocks differ.
 *
 * @param seconds since then
 */
export function ago(seconds: number, language: string | undefined): string {
  const format = new Intl.RelativeTimeFormat(language, { numeric: "auto" });
  const past = Math.max(0, seconds);
  const [unit, length] = UNITS.find(([, each]) => past >= each) ?? ["second", 1];
  return format.format(-Math.floor(past / length), unit);
}

interface Ticking {
  show(): void;
}

/** One clock for all. It is read anew each time, so it may be set, and the machine may have slept. */
const ticking = new Set<Ticking>();
let timer: ReturnType<typeof setInterval> | undefined;

function follow(): void {
  clearInterval(timer);
  timer = undefined;
  if (!ticking.size || document.hidden) return;
  const tick = (): void => ticking.forEach((one) => one.show());
  tick();
  timer = setInterval(tick, TICK);
}

let watched = false;

export function liveAgo(): CustomElementConstructor {
  if (!watched) document.addEventListener("visibilitychange", follow);
  watched = true;
  return class extends HTMLElement implements Ticking {
    private readonly shown = this.attachShadow({ mode: "open" }).appendChild(document.createElement("span"));

    connectedCallback(): void {
      ticking.add(this);
      if (!timer) follow();
      else this.show();
    }

    disconnectedCallback(): void {
      ticking.delete(this);
      if (!ticking.size) follow();
    }

    show(): void {
      const time = this.querySelector("time");
      const seconds = (Date.now() - Date.parse(time?.dateTime ?? "")) / 1000;
      const text = Number.isNaN(seconds)
        ? (this.textContent ?? "")
        : ago(seconds, document.documentElement.lang || undefined);
      if (text === this.shown.textContent) return;
      this.shown.textContent = text;
      this.shown.title = time?.textContent ?? "";
    }
  };
}
