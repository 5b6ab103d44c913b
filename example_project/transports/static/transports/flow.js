// Draws what one way brought in the last seconds: two rails, time runs to the left. A line begins on the upper
// rail when the server published and ends on the lower one when the page heard: the steeper, the sooner.

export const SHOWN_MS = 12000;
const RAIL = 3;
const PADDING = 14;

export class Flow {
  constructor(canvas) {
    this.canvas = canvas;
    this.events = [];
    this.polls = [];
    this.states = [];
  }

  event(published, heard) {
    this.events.push({ published, heard });
  }

  poll(asked, answered) {
    this.polls.push({ asked, answered });
  }

  state(name) {
    this.states.push({ name, since: performance.now() });
  }

  // Only what can still be seen is kept.
  forget(now) {
    const from = now - SHOWN_MS;
    this.events = this.events.filter((event) => event.heard > from);
    this.polls = this.polls.filter((poll) => poll.answered > from);
    while (this.states.length > 1 && this.states[1].since < from) this.states.shift();
  }

  draw(now) {
    this.forget(now);
    const { canvas } = this;
    const { clientWidth: width, clientHeight: height } = canvas;
    const scale = devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    const style = getComputedStyle(canvas);
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    const at = (time) => width - ((now - time) / SHOWN_MS) * width;
    const top = PADDING;
    const bottom = height - PADDING;
    this.drawRails(pen, style, at, now, width, top, bottom);
    pen.lineWidth = 1.5;
    pen.strokeStyle = pen.fillStyle = style.getPropertyValue("--hue");
    for (const { published, heard } of this.events) {
      pen.globalAlpha = 0.75;
      pen.beginPath();
      pen.moveTo(at(published), top);
      pen.lineTo(at(heard), bottom);
      pen.stroke();
      pen.globalAlpha = 1;
      dot(pen, at(published), top, 2.5);
      dot(pen, at(heard), bottom, 4);
    }
  }

  drawRails(pen, style, at, now, width, top, bottom) {
    const line = style.getPropertyValue("--line-strong");
    pen.fillStyle = line;
    pen.globalAlpha = 0.6;
    pen.fillRect(0, top - RAIL / 2, width, RAIL);
    pen.globalAlpha = 1;
    // The page's rail is there only while it is connected.
    this.states.forEach(({ name, since }, index) => {
      const until = this.states[index + 1]?.since ?? now;
      pen.fillStyle = name === "open" ? style.getPropertyValue("--hue") : line;
      pen.globalAlpha = name === "open" ? 0.45 : 0.9;
      const [from, to] = [Math.max(0, at(since)), at(until)];
      if (name === "open") pen.fillRect(from, bottom - RAIL / 2, to - from, RAIL);
      else for (let x = from; x < to; x += 7) pen.fillRect(x, bottom - 0.75, 2, 1.5);
    });
    pen.globalAlpha = 0.5;
    pen.fillStyle = style.getPropertyValue("--hue");
    for (const { asked, answered } of this.polls) {
      // A request is a notch; a held one is as long as it was held.
      pen.fillRect(at(asked), bottom + 6, Math.max(3, at(answered) - at(asked)), 4);
    }
    pen.globalAlpha = 1;
  }
}

function dot(pen, x, y, radius) {
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.fill();
}
