import assert from "node:assert/strict";
import { test } from "node:test";
import { morphChildren } from "../src/morph.js";
import { openPage } from "./support/page.js";

/** A part with `html` in it, and a function that morphs it into other html. */
async function partWith(html: string): Promise<{
  root: HTMLElement;
  find: <E extends Element = HTMLElement>(selector: string) => E;
  morph: (fresh: string) => void;
}> {
  const { document, window } = await openPage(`<main>${html}</main>`);
  const root = document.querySelector("main")!;
  return {
    root,
    find: <E extends Element>(selector: string) => root.querySelector<E>(selector)!,
    morph(fresh) {
      const page = new window.DOMParser().parseFromString(`<main>${fresh}</main>`, "text/html");
      const copy = page.querySelector("main")!;
      const before = copy.outerHTML;
      morphChildren(root, copy);
      assert.equal(copy.outerHTML, before, "the copy stays as it is");
    },
  };
}

/** Nodes that were put into, or taken out of, the part while `action` ran. */
function touched(root: Element, action: () => void): { added: number; removed: number; other: number } {
  const counts = { added: 0, removed: 0, other: 0 };
  const { MutationObserver } = root.ownerDocument.defaultView!;
  const observer = new MutationObserver(() => {});
  observer.observe(root, { subtree: true, childList: true, attributes: true, characterData: true });
  action();
  for (const record of observer.takeRecords()) {
    counts.added += record.addedNodes.length;
    counts.removed += record.removedNodes.length;
    if (record.type !== "childList") counts.other += 1;
  }
  return counts;
}

const list = (...items: string[]): string =>
  `<ul>${items.map((item) => `<li id="${item}">${item}</li>`).join("")}</ul>`;

test("any content becomes any other", async () => {
  const contents = [
    "",
    "text",
    "<p>a</p>",
    "<p>a</p><p>b</p>",
    '<p class="x" id="p1">a</p>text<!--note--><p>b</p>',
    '<div><p id="p1">a</p></div><p>b</p>',
    list("a", "b", "c", "d"),
    list("d", "c", "b", "a"),
    list("b", "c", "d", "e", "a"),
    list("x", "c"),
    '<ul><li>1</li><li id="b">2</li>\n<li>3</li></ul>',
    '<table><tbody><tr data-live-key="1"><td>1</td></tr><tr data-live-key="2"><td>2</td></tr></tbody></table>',
    '<table><tbody><tr data-live-key="2"><td>2!</td></tr><tr data-live-key="3"><td>3</td></tr></tbody></table>',
    '<div><input id="q"></div><div><input id="r"></div>',
    '<div>new</div><div><input id="r"></div><div><input id="q"></div>',
    '<svg viewBox="0 0 1 1"><use xlink:href="#a"></use></svg>',
    '<button @click="go" :class="{a: b}">x</button>',
    "<details><summary>s</summary>a</details><select><option selected>1</option><option>2</option></select>",
    "<iframe></iframe><p>a</p><video></video>",
    '<p>a</p><video></video><p id="p1">b</p><iframe></iframe>',
  ];
  const { root, morph } = await partWith("");
  for (const from of contents) {
    for (const to of contents) {
      root.innerHTML = from;
      morph(to);
      const expected = root.ownerDocument.createElement("main");
      expected.innerHTML = to;
      assert.ok(root.isEqualNode(expected), `from ${from} to ${to}: ${root.innerHTML}`);
    }
  }
});

test("any order of items becomes any other", async () => {
  let seed = 11;
  const random = (below: number): number => (seed = (seed * 48271) % 2147483647) % below;
  const { root, morph } = await partWith("");
  for (let round = 0; round < 300; round += 1) {
    const items = Array.from({ length: random(9) }, () => random(12));
    const html = items
      .filter((item, i) => items.indexOf(item) === i)
      .map((item) => (item % 3 ? `<p id="i${item}">${item}</p>` : `<p>${item}</p>`))
      .join(item(random(3)));
    morph(html);
    assert.equal(root.innerHTML, html, `round ${round}`);
  }
  function item(kind: number): string {
    return ["", " ", "<hr>"][kind]!;
  }
});

test("what did not change is not touched", async () => {
  const html = `<h1>Orders</h1>\n${list("a", "b", "c")}<p class="x">text<b>bold</b></p>`;
  const { root, morph } = await partWith(html);
  assert.deepEqual(
    touched(root, () => morph(html)),
    { added: 0, removed: 0, other: 0 },
  );
});

test("one changed text is one change", async () => {
  const { root, morph } = await partWith(`<p>1</p>${list("a", "b")}`);
  assert.deepEqual(
    touched(root, () => morph(`<p>2</p>${list("a", "b")}`)),
    { added: 0, removed: 0, other: 1 },
  );
});

test("an insertion or a removal in one place leaves the others alone, with or without ids", async () => {
  const items = (...names: string[]): string => names.map((name) => `<p>${name}</p>`).join("\n");
  const { root, morph } = await partWith(items("a", "b", "c"));
  assert.deepEqual(
    touched(root, () => morph(items("new", "a", "b", "c"))),
    { added: 2, removed: 0, other: 0 },
  );
  assert.deepEqual(
    touched(root, () => morph(items("new", "a", "c"))),
    { added: 0, removed: 2, other: 0 },
  );
});

test("nodes with ids, keys, or ids inside keep their identity when they move", async () => {
  const row = (n: number, text = ""): string => `<p data-live-key="${n}">${text}</p>`;
  for (const [from, to, selector] of [
    [list("a", "b", "c"), list("c", "x", "a"), "#c"],
    [row(1) + row(2) + row(3), row(3, "!") + row(4) + row(1), '[data-live-key="3"]'],
    [
      '<div>x<input id="q"></div><div>y<input id="r"></div>',
      '<div>y!<input id="r"></div><div>new</div><div>x!<input id="q"></div>',
      "#r",
    ],
  ] as const) {
    const { find, morph, root } = await partWith(from);
    const node = find(selector);
    morph(to);
    assert.equal(find(selector), node);
    assert.equal(root.innerHTML, to);
  }
});

test("something with a name never becomes something with another", async () => {
  const { find, morph } = await partWith('<p id="a">a</p><input type="text" name="x">');
  const [a, field] = [find("#a"), find("input")];
  morph('<p id="b">b</p><input type="text" name="y">');
  assert.notEqual(find("#b"), a);
  assert.notEqual(find("input"), field);
  const b = find("#b");
  morph("<p>nobody</p>");
  assert.notEqual(find("p"), b);
});

test("attributes are added, changed and removed", async () => {
  const { root, morph } = await partWith('<p class="a" title="t">x</p>');
  const html = '<p class="b" lang="de" @click="go">x</p>';
  morph(html);
  assert.equal(root.innerHTML, html);
});

test("focus, caret and what is being typed stay, while everything around changes", async () => {
  const { root, find, morph } = await partWith('<p>1</p><label>Name <input id="n" value="server"></label><p>x</p>');
  const input = find<HTMLInputElement>("input");
  input.focus();
  input.value = "typed";
  input.setSelectionRange(1, 3);
  morph('<p>2</p><p>new</p><label>Your name <input id="n" value="changed" class="wide"></label>');
  assert.equal(root.ownerDocument.activeElement, input);
  assert.equal(find("input"), input);
  assert.deepEqual([input.value, input.selectionStart, input.selectionEnd, input.className], ["typed", 1, 3, "wide"]);
});

test("a field that is focused keeps its value even before the first key is pressed", async () => {
  for (const [from, to] of [
    ['<input value="old">', '<input value="new">'],
    ["<textarea>old</textarea>", "<textarea>new</textarea>"],
  ] as const) {
    const { find, morph } = await partWith(from);
    const field = find<HTMLInputElement>("input, textarea");
    field.focus();
    morph(to);
    assert.equal(field.value, "old");
    field.blur();
    morph(to);
    assert.equal(field.value, "new");
  }
});

test("text in an editable element stays while it is focused", async () => {
  const { find, morph } = await partWith('<div contenteditable tabindex="0">typed</div>');
  find("div").focus();
  morph('<div contenteditable tabindex="0" class="x">server</div>');
  assert.equal(find("div").textContent, "typed");
  assert.equal(find("div").className, "x");
});

test("what was typed, checked or chosen before stays; what was not follows the server", async () => {
  const form = (value: string, checked: string, option: string): string =>
    `<input id="t" value="${value}"><textarea id="a">${value}</textarea>` +
    ["x", "y", "z"].map((v) => `<input type="radio" name="r" id="${v}"${v === checked ? " checked" : ""}>`).join("") +
    `<input type="checkbox" id="c"><select>${["1", "2", "3"]
      .map((v) => `<option${v === option ? " selected" : ""}>${v}</option>`)
      .join("")}<option>new in ${value}</option></select>`;
  const edited = await partWith(form("old", "x", "1"));
  const untouched = await partWith(form("old", "x", "1"));
  const field = (part: typeof edited, selector: string): HTMLInputElement => part.find<HTMLInputElement>(selector);
  const state = (part: typeof edited): unknown[] => [
    field(part, "#t").value,
    field(part, "#a").value,
    part.find("input[type=radio]:checked").id,
    field(part, "#c").checked,
    field(part, "select").value,
  ];
  untouched.morph(form("new", "z", "3"));
  assert.deepEqual(state(untouched), ["new", "new", "z", false, "3"]);

  const { find } = edited;
  field(edited, "#t").value = "typed";
  field(edited, "#a").value = "typed";
  find<HTMLInputElement>("#y").checked = true;
  find<HTMLInputElement>("#c").checked = true;
  find<HTMLSelectElement>("select").value = "2";
  edited.morph(form("new", "z", "3"));
  assert.deepEqual(state(edited), ["typed", "typed", "y", true, "2"]);
  assert.equal(find("select").children.length, 4);
});

test("a choice that is no longer offered falls back to the server's", async () => {
  const { find, morph } = await partWith("<select><option>1</option><option>2</option></select>");
  find<HTMLSelectElement>("select").value = "2";
  morph("<select><option>1</option><option selected>3</option></select>");
  assert.equal(find<HTMLSelectElement>("select").value, "3");
});

test("an opened or closed <details> stays as the user left it", async () => {
  const { find, morph } = await partWith("<details><summary>s</summary>1</details>");
  find<HTMLDetailsElement>("details").open = true;
  morph("<details><summary>s</summary>2</details>");
  assert.equal(find("details").outerHTML, '<details open=""><summary>s</summary>2</details>');
});

test("a playing video is left alone, a paused one is not", async () => {
  const { find, morph } = await partWith('<video src="a"></video>');
  const video = find<HTMLVideoElement>("video");
  Object.defineProperty(video, "paused", { value: false, configurable: true });
  morph('<p>new</p><video src="b"></video>');
  assert.equal(find("video"), video);
  assert.equal(video.getAttribute("src"), "a");
  Object.defineProperty(video, "paused", { value: true });
  morph('<video src="b"></video>');
  assert.equal(video.getAttribute("src"), "b");
});

test("a focused node is not taken out of the document: others move around it", async () => {
  const { find, morph, root } = await partWith(
    '<p id="a"></p><p id="b"></p><p id="c"><input></p><iframe id="i"></iframe>',
  );
  const events: string[] = [];
  find("input").focus();
  find("input").addEventListener("blur", () => events.push("blur"));
  const { MutationObserver } = root.ownerDocument.defaultView!;
  const observer = new MutationObserver(() => {});
  observer.observe(root, { childList: true });
  const html = '<p id="c"><input></p><iframe id="i"></iframe><p id="b"></p><p id="a"></p>';
  morph(html);
  assert.equal(root.innerHTML, html);
  const moved = observer
    .takeRecords()
    .flatMap((record) => [...record.removedNodes].map((node) => (node as Element).id));
  assert.ok(!moved.includes("c") && !moved.includes("i"), `moved ${moved}`);
  assert.deepEqual(events, []);
});

test("where the focused element has to be moved after all, it gets focus and caret back", async () => {
  const { find, morph, root } = await partWith('<iframe id="i"></iframe><p id="c"><input value="text"></p>');
  const input = find<HTMLInputElement>("input");
  input.focus();
  input.setSelectionRange(2, 3);
  const parent = input.parentElement!;
  // As a browser does that cannot keep focus while it moves a node.
  const insertBefore = root.insertBefore.bind(root);
  root.insertBefore = ((node: Node, before: Node | null) => {
    if (node.contains(input)) input.blur();
    return insertBefore(node, before);
  }) as typeof root.insertBefore;
  morph('<p id="c"><input value="text"></p><hr><iframe id="i"></iframe>');
  assert.equal(root.ownerDocument.activeElement, input);
  assert.equal(input.parentElement, parent);
  assert.deepEqual([input.selectionStart, input.selectionEnd], [2, 3]);
});

test("what is scrolled stays scrolled when it moves", async () => {
  const { find, morph, root } = await partWith(list("a", "b", "c"));
  const node = find("#c");
  node.scrollTop = 40;
  const ul = find("ul");
  const insertBefore = ul.insertBefore.bind(ul);
  ul.insertBefore = ((moved: Element, before: Node | null) => {
    moved.scrollTop = 0;
    return insertBefore(moved, before);
  }) as typeof ul.insertBefore;
  morph(list("c", "a", "b"));
  assert.equal(find("#c"), node);
  assert.equal(node.scrollTop, 40);
  assert.equal(root.innerHTML, list("c", "a", "b"));
});

test("moveBefore() is used where there is one", async () => {
  const { find, morph } = await partWith(list("a", "b", "c"));
  const ul = find("ul");
  const moved: string[] = [];
  Object.assign(ul, {
    moveBefore(node: Element, before: Node | null) {
      moved.push(node.id);
      ul.insertBefore(node, before);
    },
  });
  morph(list("c", "a", "b"));
  assert.deepEqual(moved, ["c"]);
});

test("elements with data-live-keep are not touched, nor taken for others, nor removed", async () => {
  const { find, morph, root } = await partWith(
    '<div data-live-keep>widget</div><div>1</div><p id="k" data-live-keep class="x"><b>kept</b></p>',
  );
  const [widget, kept] = [find("div"), find("#k")];
  morph('<h1>new</h1><div>2</div><p id="k" data-live-keep>fresh</p>');
  assert.equal(widget.isConnected, true);
  assert.equal(find("#k"), kept);
  assert.equal(kept.outerHTML, '<p id="k" data-live-keep="" class="x"><b>kept</b></p>');
  assert.match(root.textContent!, /new.*2/s);
});

test("elements with a life of their own keep it", async () => {
  const { find, morph, root } = await partWith('<p>1</p><live-topic topic="a"></live-topic>');
  const { window } = globalThis;
  const lives: string[] = [];
  window.customElements.define(
    "x-clock",
    class extends HTMLElement {
      connectedCallback(): void {
        lives.push("in");
      }
      disconnectedCallback(): void {
        lives.push("out");
      }
    },
  );
  morph("<x-clock></x-clock>");
  const clock = find("x-clock");
  morph("<p>new</p><x-clock></x-clock>");
  morph('<x-clock class="x"></x-clock>');
  assert.equal(find("x-clock"), clock);
  assert.deepEqual(lives, ["in"]);
  assert.equal(root.querySelector("live-topic"), null);
});

test("focus goes along with an element that moved to another parent, found by its id", async () => {
  const lane = (id: string, inside: string) => `<section id="${id}">${inside}</section>`;
  const card = '<article><a id="open-7" href="#7">order 7</a></article>';
  const { find, morph } = await partWith(lane("new", card) + lane("paid", ""));
  find("#open-7").focus();
  morph(lane("new", "") + lane("paid", card));
  assert.equal(document.activeElement, find("#paid #open-7"));
});
