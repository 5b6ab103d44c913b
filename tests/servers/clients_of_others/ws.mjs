// The package `ws` with its defaults: `node ws.mjs <address> <topic>`, a line of JSON per frame. It comes back
// with its cursor after every close. What stands on its standard input is sent.
import readline from "node:readline";
import WebSocket from "ws";

const [, , address, topic] = process.argv;
const say = (line) => console.log(JSON.stringify(line));
let cursor = "";
let socket;

function open() {
  socket = new WebSocket(address, "live.1");
  socket.on("open", () => socket.send(JSON.stringify({ action: "subscribe", ref: "s", topics: [topic], cursor })));
  socket.on("message", (data, isBinary) => (isBinary ? takeBinary(data) : take(data.toString())));
  socket.on("error", () => {});
  socket.on("close", (code) => {
    say({ closed: code });
    setTimeout(open, 100);
  });
}

function take(text) {
  for (const line of text.trimEnd().split("\n")) {
    const { event, data, id, ref, error } = JSON.parse(line);
    cursor = id ?? cursor;
    if (event === "keep-alive") socket.send(JSON.stringify({ action: "pong" }));
    else if (event === "stream-reply") say({ reply: ref, data, error });
    else if (event === "stream-reset") say({ reset: data.reason });
    else if (!event.startsWith("stream-")) say({ event, data });
  }
}

function takeBinary(frame) {
  const start = 25 + frame.readUInt16BE(2) + frame[4];
  const end = start + frame.readUInt32BE(21);
  cursor = frame.subarray(end).toString() || cursor;
  say({ bytes: [...frame.subarray(start, end)], sequence: Number(frame.readBigUInt64BE(5)) });
}

readline.createInterface({ input: process.stdin }).on("line", (line) => socket.send(line));
open();
