/**
 * Builds the classic script that Django serves, the file that it fetches when it needs more, the script of each feature
 * (src/features/name.ts becomes live-name.js, which the feature's template tags load), and the ES module for npm.
 * With --check it writes nothing, and fails if what Django serves is not what the source makes.
 */

import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { internalNames } from "./internal-names.mjs";

/** Bytes, gzipped. The first is what a page loads; the second what some pages load besides; then the features. */
const LARGEST = {
  "live.js": 10_000,
  "live-more.js": 6_750,
  "live-messages.js": 1_500,
  "live-progress.js": 2_500,
  "live-answer.js": 2_500,
  "live-dashboards.js": 6_500,
  "live-feeds.js": 1_500,
  "live-presence.js": 3_000,
  "live-notifications.js": 4_000,
  "live-chat.js": 9_000,
};
const client = new URL("../", import.meta.url);
const serving = new URL("../django_live/static/django_live/", client);
const { name, version, license } = JSON.parse(readFileSync(new URL("package.json", client), "utf8"));
const mangled = {};

async function bundle(entries, options) {
  const { outputFiles, mangleCache } = await build({
    absWorkingDir: fileURLToPath(client),
    entryPoints: entries,
    outdir: "dist",
    bundle: true,
    write: false,
    target: "es2020",
    charset: "ascii",
    minify: true,
    mangleProps: internalNames(),
    mangleCache: mangled,
    legalComments: "none",
    banner: { js: `/*! ${name} ${version}, ${license} */` },
    ...options,
  });
  Object.assign(mangled, mangleCache);
  return Object.fromEntries(outputFiles.map(({ path, text }) => [path.split("/").at(-1), text]));
}

/** The two files, which know each other by what both are made of. */
async function served() {
  const parts = async (build) => {
    const define = { __BUILD__: JSON.stringify(build) };
    const script = await bundle(["src/script.ts"], { format: "iife", define });
    const more = await bundle(["src/more.ts"], { format: "esm", define });
    return { "live.js": script["script.js"], "live-more.js": more["more.js"] };
  };
  const draft = await parts("");
  return parts(createHash("sha256").update(Object.values(draft).join()).digest("hex").slice(0, 8));
}

/** Each feature stands alone: it knows the client as `window.live`, by its public names, so nothing is shortened. */
async function features() {
  const entries = readdirSync(new URL("src/features/", client)).filter((file) => file.endsWith(".ts"));
  if (entries.length === 0) return {};
  const options = { format: "iife", mangleProps: undefined, mangleCache: undefined };
  const scripts = await bundle(
    entries.map((file) => `src/features/${file}`),
    options,
  );
  return Object.fromEntries(Object.entries(scripts).map(([file, text]) => [`live-${file}`, text]));
}

const files = { ...(await served()), ...(await features()) };
for (const [file, content] of Object.entries(files)) {
  const size = gzipSync(content, { level: 9 }).length;
  console.log(`${file}: ${size} bytes gzipped, of ${LARGEST[file]}`);
  if (!(file in LARGEST)) fail(`Say in scripts/build.mjs how large ${file} may be.`);
  if (size > LARGEST[file]) fail(`${file} is ${size} bytes gzipped; it may have ${LARGEST[file]}.`);
  if (process.argv.includes("--check")) {
    if (readOrEmpty(file) !== content) fail(`${file} is not what client/src makes: run \`npm run build\` in client/.`);
  } else {
    writeFileSync(new URL(file, serving), content);
  }
}
if (!process.argv.includes("--check")) {
  const dist = new URL("dist/", client);
  rmSync(dist, { recursive: true, force: true });
  mkdirSync(dist);
  const modules = await bundle(["src/live.ts"], { format: "esm", splitting: true, outExtension: { ".js": ".mjs" } });
  for (const [file, text] of Object.entries(modules)) writeFileSync(new URL(file, dist), text);
  // The public face holds nothing but types, so it is its own declaration.
  const types = readFileSync(new URL("src/api.ts", client), "utf8");
  writeFileSync(new URL("live.d.ts", dist), `${types}\nexport declare const live: Live;\n`);
  const styles = readFileSync(new URL("live-status.css", serving), "utf8");
  writeFileSync(new URL("live-status.css", dist), styles);
}

function readOrEmpty(file) {
  try {
    return readFileSync(new URL(file, serving), "utf8");
  } catch {
    return "";
  }
}

function fail(sentence) {
  console.error(sentence);
  process.exit(1);
}
