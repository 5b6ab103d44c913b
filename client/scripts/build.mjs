/**
 * Builds the classic script that Django serves, and the ES module for npm.
 * With --check it writes nothing, and fails if the script that Django serves is not what the source makes.
 */

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const LARGEST = 10_000; // Bytes of the script, gzipped.
const client = new URL("../", import.meta.url);
const served = new URL("../django_live/static/django_live/live.js", client);
const { name, version, license } = JSON.parse(readFileSync(new URL("package.json", client), "utf8"));

async function bundle(entry, format) {
  const { outputFiles } = await build({
    absWorkingDir: fileURLToPath(client),
    entryPoints: [`src/${entry}`],
    bundle: true,
    write: false,
    format,
    target: "es2020",
    charset: "ascii",
    minify: true,
    legalComments: "none",
    banner: { js: `/*! ${name} ${version}, ${license} */` },
  });
  return outputFiles[0].text;
}

const script = await bundle("script.ts", "iife");
const size = gzipSync(script, { level: 9 }).length;
if (size > LARGEST) fail(`live.js is ${size} bytes gzipped; it may have ${LARGEST}.`);

if (process.argv.includes("--check")) {
  if (readOrEmpty(served) !== script) fail("live.js is not what client/src makes: run `npm run build` in client/.");
} else {
  writeFileSync(served, script);
  const dist = new URL("dist/", client);
  mkdirSync(dist, { recursive: true });
  writeFileSync(new URL("live.mjs", dist), await bundle("live.ts", "esm"));
  // The public face holds nothing but types, so it is its own declaration.
  const types = readFileSync(new URL("src/api.ts", client), "utf8");
  writeFileSync(new URL("live.d.ts", dist), `${types}\nexport declare const live: Live;\n`);
}
console.log(`live.js: ${size} bytes gzipped`);

function readOrEmpty(file) {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}

function fail(sentence) {
  console.error(sentence);
  process.exit(1);
}
