/**
 * The names that may be shortened: members of our own classes that nobody else knows. What the page, the browser, the
 * wire or another tab calls something keeps its name.
 */

import { readdirSync, readFileSync } from "node:fs";

const source = new URL("../src/", import.meta.url);

/** Names in what is sent: by the protocol, and between tabs, which may run different releases. */
const SENT = `
  action asks blocked by code connection csrfToken cursor data ending error errors event events frames from full
  heartbeat id message more moved open reason ref reply retry retryAfter retry_after share signal snapshot socket
  stop to topic topics type $bytes
`;

/** What stands in an object that is looked into with a name made at run time. */
const LOOKED_UP = "idle connecting live stale stopped entered moved changed left";

/** What the language and the browser have on the objects that we touch. */
const GLOBALS = /^lib\.(es\d.*|dom)\.d\.ts$/;

export function internalNames() {
  const files = readdirSync(source, { recursive: true }).filter(
    // What features call something is theirs: they are built apart, and read what servers send.
    (file) => file.endsWith(".ts") && !file.startsWith("features"),
  );
  const texts = files.map((file) => [file, readFileSync(new URL(file, source), "utf8")]);
  const names = new Set();
  for (const [file, text] of texts) {
    if (file === "api.ts") continue;
    // Members of classes and interfaces stand at the first level; parameters of constructors may be members, too.
    for (const [, name] of text.matchAll(
      /^ {2}(?:private |readonly |static |async |get |set |\*)*([a-z]\w*)[?!]?(?:\(|:| =)/gm,
    ))
      names.add(name);
    for (const [, name] of text.matchAll(/\bprivate (?:readonly )?(\w+)/g)) names.add(name);
  }
  const known = new Set(`${SENT} ${LOOKED_UP}`.trim().split(/\s+/));
  const api = texts.find(([file]) => file === "api.ts")[1];
  for (const text of [api, ...declarations()]) {
    for (const [name] of text.matchAll(/\b[A-Za-z_$]\w*(?=\??[(:<])/g)) known.add(name);
  }
  const internal = [...names].filter((name) => !known.has(name)).sort();
  return new RegExp(`^(${internal.join("|")})$`);
}

function declarations() {
  const modules = new URL("../node_modules/@typescript/", import.meta.url);
  const folder = new URL(`${readdirSync(modules).find((name) => name.startsWith("typescript-"))}/lib/`, modules);
  const libraries = readdirSync(folder).filter((file) => GLOBALS.test(file));
  return libraries.map((file) => readFileSync(new URL(file, folder), "utf8"));
}
