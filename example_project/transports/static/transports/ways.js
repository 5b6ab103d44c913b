// Three ways to listen to one topic, each as plain as docs/reference/protocol.md allows. A site takes live.js,
// which does all of this and more; here they stand apart, so that each can be counted and cut.

const FIRST_WAIT = 1000;
const LONGEST_WAIT = 30000;
const LONG_POLL = 25;

const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const sizeOf = (text) => new TextEncoder().encode(text).length;

// What they have in common: a cursor, coming back with it, and being cut for a while.
class Way {
  constructor(name, addresses, listener) {
    this.name = name;
    this.addresses = addresses;
    this.listener = listener;
    this.cursor = "";
    this.running = false;
    this.cutUntil = 0;
    this.opened = false;
  }

  async start() {
    if (this.running) return;
    this.running = true;
    let failures = 0;
    let wasCut = false;
    while (this.running) {
      const wait = this.cutUntil - performance.now();
      if (wait > 0) await pause(wait);
      if (!this.running) return;
      if (wasCut) this.listener.count("reconnects", 1);
      this.opened = false;
      this.listener.state("connecting");
      try {
        await this.run();
      } catch (error) {
        if (error.isRefused) {
          this.running = false;
          this.listener.state("stopped");
          return;
        }
      }
      if (!this.running) return;
      wasCut = true;
      this.listener.state("cut");
      failures = this.opened ? 0 : failures + 1;
      // Between 0 and a bound that grows: pages that lost one server do not come back all at once.
      await pause(Math.random() * Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** failures));
    }
  }

  isOpen() {
    this.opened = true;
    this.listener.state("open");
  }

  // Stay away so long: what is published meanwhile has to be made up for.
  cut(ms) {
    this.cutUntil = performance.now() + ms;
    this.close();
  }

  stop() {
    this.running = false;
    this.close();
  }

  hear(event, data) {
    if (event === "beat") this.listener.event(data);
  }

  // Beside a stream or polls, a message is an ordinary request.
  async send(data) {
    this.listener.count("requests", 1);
    const { text, answer } = await post(this.addresses, data);
    this.listener.count("bytes", sizeOf(text));
    return answer;
  }
}

export async function post({ send, topic, csrfToken }, data) {
  const response = await fetch(send, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRFToken": csrfToken },
    body: JSON.stringify({ topic, type: "beat", data }),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(text);
  return { text, answer: JSON.parse(text).data };
}

function refusalOf(response) {
  const error = new Error(`status ${response.status}`);
  error.isRefused = response.status < 500 || response.status === 501;
  return error;
}

export class Stream extends Way {
  async run() {
    this.abort = new AbortController();
    this.listener.count("requests", 1);
    const headers = { Accept: "text/event-stream", ...(this.cursor && { "Last-Event-ID": this.cursor }) };
    const url = `${this.addresses.events}?${new URLSearchParams({ topic: this.addresses.topic })}`;
    const response = await fetch(url, { headers, signal: this.abort.signal });
    if (!response.ok) throw refusalOf(response);
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      this.listener.count("bytes", value.length);
      const blocks = (rest + decoder.decode(value, { stream: true })).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) this.take(block);
    }
  }

  take(block) {
    const fields = Object.fromEntries(
      block.split("\n").map((line) => {
        const at = line.indexOf(":");
        return [line.slice(0, at), line.slice(at + 1).replace(/^ /, "")];
      }),
    );
    if (fields.id) this.cursor = fields.id;
    if (fields.event === "stream-open") this.isOpen();
    else if (fields.event) this.hear(fields.event, fields.data ? JSON.parse(fields.data) : null);
  }

  close() {
    this.abort?.abort();
  }
}

export class Socket extends Way {
  run() {
    this.calls = new Map();
    this.listener.count("requests", 1);
    const url = new URL(this.addresses.socket, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = (this.socket = new WebSocket(url, "live.1"));
    return new Promise((done, fail) => {
      socket.onopen = () => this.say({ action: "subscribe", topics: [this.addresses.topic], cursor: this.cursor });
      socket.onmessage = ({ data }) => {
        this.listener.count("bytes", sizeOf(data));
        for (const line of data.trimEnd().split("\n")) this.take(JSON.parse(line));
      };
      socket.onclose = ({ code }) => {
        for (const call of this.calls.values()) call.fail(new Error("the connection is lost"));
        if (code >= 4100 && code < 4300) fail(Object.assign(new Error(`closed with ${code}`), { isRefused: true }));
        else done();
      };
    });
  }

  take(frame) {
    if (frame.id) this.cursor = frame.id;
    if (frame.event === "stream-open") this.isOpen();
    else if (frame.event === "keep-alive") this.say({ action: "pong" });
    else if (frame.event === "stream-reply") this.answer(frame);
    else this.hear(frame.event, frame.data);
  }

  answer({ ref, data, error }) {
    const call = this.calls.get(ref);
    this.calls.delete(ref);
    if (error) call?.fail(new Error(error.message));
    else call?.done(data);
  }

  say(action) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(action));
  }

  send(data) {
    const ref = (this.refs = (this.refs ?? 0) + 1);
    return new Promise((done, fail) => {
      if (this.socket?.readyState !== WebSocket.OPEN) {
        fail(new Error("the connection is lost"));
        return;
      }
      this.calls.set(ref, { done, fail });
      this.say({ action: "send", ref, topic: this.addresses.topic, type: "beat", data });
    });
  }

  close() {
    this.socket?.close();
  }
}

export class Polls extends Way {
  held = false;

  // Each poll is a request of its own; only a cut is a reconnect.
  async run() {
    this.abort = new AbortController();
    const { signal } = this.abort;
    for (;;) {
      const query = new URLSearchParams({ topic: this.addresses.topic, cursor: this.cursor });
      if (this.held) query.set("wait", LONG_POLL);
      this.listener.count("requests", 1);
      const headers = this.tag ? { "If-None-Match": this.tag } : {};
      const asked = performance.now();
      const response = await fetch(`${this.addresses.poll}?${query}`, { headers, signal, cache: "no-store" });
      if (!response.ok && response.status !== 304) throw refusalOf(response);
      if (!this.opened) this.isOpen();
      this.listener.poll(asked, performance.now());
      this.tag = response.headers.get("ETag") ?? this.tag;
      let wait = Number(response.headers.get("Retry-After") ?? 0);
      if (response.status === 200) {
        const text = await response.text();
        this.listener.count("bytes", sizeOf(text));
        const answer = JSON.parse(text);
        for (const { event, data } of answer.frames) this.hear(event, data);
        this.cursor = answer.cursor;
        wait = answer.retry_after;
      }
      await this.rest(wait * 1000, signal);
    }
  }

  // Until the next poll, or the cut.
  rest(ms, signal) {
    return new Promise((done, fail) => {
      const timer = setTimeout(done, ms);
      this.wake = () => {
        clearTimeout(timer);
        done();
      };
      signal.addEventListener("abort", () => {
        clearTimeout(timer);
        fail(signal.reason);
      });
    });
  }

  hold(held) {
    this.held = held;
    this.wake?.();
  }

  close() {
    this.abort?.abort();
  }
}
