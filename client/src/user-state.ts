/** What the user did to a part of the page, where markup does not tell of it. */

/** The field that the user is in: its content is theirs. */
export function fieldInUse(): Element | null {
  const active = document.activeElement;
  return active?.matches("input, textarea, select, [contenteditable]") ? active : null;
}

/** Remembers focus, selection and choices below `root`; returns a function that brings back what got lost. */
export function keepUserState(root: Element): () => void {
  const restore = [keepFocus(root), ...keepChoices(root)];
  return () => {
    for (const each of restore) each();
  };
}

function keepFocus(root: Element): () => void {
  const active = document.activeElement as HTMLInputElement | null;
  if (!active || !root.contains(active)) return () => {};
  const { selectionStart, selectionEnd, selectionDirection } = active;
  return () => {
    // An element that went to another parent was made anew there: its id tells which it is.
    const now = active.isConnected ? active : (active.id && document.getElementById(active.id)) || null;
    if (now === null || document.activeElement === now) return;
    now.focus({ preventScroll: true });
    if (now === active && typeof selectionStart === "number") {
      active.setSelectionRange(selectionStart, selectionEnd, selectionDirection ?? undefined);
    }
  };
}

/** A default that the server changes would take the place of the user's choice in a group of radios or a select. */
function keepChoices(root: Element): (() => void)[] {
  const radios = [...root.querySelectorAll<HTMLInputElement>("input[type=radio]")];
  const selects = [...root.querySelectorAll("select")];
  return [
    ...radios
      .filter((radio) => radio.checked && !radio.defaultChecked)
      .map((radio) => () => void (radio.checked = true)),
    ...selects.filter(isEdited).map((select) => {
      const chosen = new Set([...select.selectedOptions].map((option) => option.value));
      return () => {
        const options = [...select.options];
        if (!options.some((option) => chosen.has(option.value))) return; // It is no longer offered.
        for (const option of options) option.selected = chosen.has(option.value);
      };
    }),
  ];
}

function isEdited(select: HTMLSelectElement): boolean {
  const options = [...select.options];
  const marked = options.filter((option) => option.defaultSelected);
  // With nothing marked, a browser shows the first.
  const initial = marked.length || select.multiple ? marked : options.slice(0, 1);
  return options.some((option) => option.selected !== initial.includes(option));
}

/** Moves a node to before another of its siblings, and keeps what is scrolled inside it where it was. */
export function move(node: Node, before: Node | null): void {
  const parent = node.parentNode as Element;
  if (parent.moveBefore !== undefined) return parent.moveBefore(node, before);
  const inside = node instanceof Element ? [node, ...node.querySelectorAll("*")] : [];
  const scrolled = inside
    .filter((element) => element.scrollTop || element.scrollLeft)
    .map((element) => ({ element, top: element.scrollTop, left: element.scrollLeft }));
  parent.insertBefore(node, before);
  for (const { element, top, left } of scrolled) {
    element.scrollTop = top;
    element.scrollLeft = left;
  }
}
