/** Runs code that is not ours: what it throws is reported, and stops nothing here. */
export function guarded(callback: () => void): void {
  try {
    callback();
  } catch (error) {
    report(error);
  }
}

export function report(error: unknown): void {
  if (typeof reportError === "function") reportError(error);
  else console.error(error);
}
