/** Numbers and texts as people of the page's language read them. */

const formats = new Map<string, Intl.NumberFormat>();

/** @param places digits behind the point; empty: as many as it has, three at most */
export function text(value: unknown, places = "", unit = ""): string {
  if (value === null || value === undefined || value === "") return "\u2013";
  if (typeof value === "number") return number(value, places) + (unit && `\u00a0${unit}`);
  if (typeof value === "object") return JSON.stringify(value);
  return String(value) + (unit && `\u00a0${unit}`);
}

function number(value: number, places: string): string {
  let format = formats.get(places);
  if (!format) {
    const digits = Number.parseInt(places, 10);
    const options = digits >= 0 ? { minimumFractionDigits: digits, maximumFractionDigits: digits } : {};
    format = new Intl.NumberFormat(document.documentElement.lang || undefined, options);
    formats.set(places, format);
  }
  return format.format(value);
}

export function clock(seconds: number): string {
  return new Date(seconds * 1000).toLocaleTimeString(document.documentElement.lang || undefined);
}
