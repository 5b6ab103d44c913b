/** Node beside the others: server-sent events by `http`, WebSockets by `ws`. `node server.mjs <port>`. */

import { createServer } from "node:http";
import { WebSocketServer } from "ws";

const streams = new Set();
const sockets = new WebSocketServer({ noServer: true });
let n = 0;

const now = () => Number(process.hrtime.bigint()) / 1e9;

async function publish({ rate, count, size }) {
  const began = now();
  for (let sent = 0; sent < count; sent += 1) {
    const wait = rate ? began + sent / rate - now() : 0;
    await new Promise((done) => (wait > 0 ? setTimeout(done, wait * 1000) : setImmediate(done)));
    const text = JSON.stringify({ n, t: now(), pad: "x".repeat(size - 40) });
    const frame = Buffer.from(`event: tick\ndata: ${text}\nid: ${n}\n\n`);
    n += 1;
    for (const stream of streams) stream.write(frame);
    for (const socket of sockets.clients) socket.send(text);
  }
}

const server = createServer((request, response) => {
  const url = new URL(request.url, "http://localhost");
  if (url.pathname === "/publish") {
    const asked = Object.fromEntries([...url.searchParams].map(([key, value]) => [key, Number(value)]));
    void publish(asked);
    response.end("ok");
    return;
  }
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  response.write(": open\n\n");
  streams.add(response);
  response.on("close", () => streams.delete(response));
});
server.on("upgrade", (request, socket, head) => sockets.handleUpgrade(request, socket, head, () => {}));
server.listen(Number(process.argv[2]), "127.0.0.1", 4096);
