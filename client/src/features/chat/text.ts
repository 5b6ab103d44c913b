/** The text of a message as nodes: text, links to the web, and names. Never HTML. */

// The same expression and ends as in django_live/chat/texts.py.
const PIECES = /(https?:\/\/[^\s<>"']+)|(?<![\p{L}\p{N}_@.])@([\p{L}\p{N}_.+-]+)/giu;
const ENDS = ".,;:!?)]}»”’";

function withoutEnd(text: string): string {
  let end = text.length;
  while (end && ENDS.includes(text[end - 1]!)) {
    const left = text.slice(0, end);
    if (text[end - 1] === ")" && left.split("(").length >= left.split(")").length) break;
    end -= 1;
  }
  return text.slice(0, end);
}

/** What to show for a text; `handle`: what its reader is mentioned by. */
export function nodesOf(text: string, handle: string): Node[] {
  const nodes: Node[] = [];
  let done = 0;
  for (const found of text.matchAll(PIECES)) {
    const whole = withoutEnd(found[0]);
    if (whole.length <= (found[1] ? "https://".length : 1)) continue;
    if (found.index > done) nodes.push(document.createTextNode(text.slice(done, found.index)));
    nodes.push(found[1] ? linkTo(whole) : nameOf(whole, handle));
    done = found.index + whole.length;
  }
  if (done < text.length) nodes.push(document.createTextNode(text.slice(done)));
  return nodes;
}

function linkTo(address: string): HTMLElement {
  const link = document.createElement("a");
  link.href = address;
  link.rel = "nofollow noopener noreferrer ugc";
  link.textContent = address;
  return link;
}

function nameOf(text: string, handle: string): HTMLElement {
  const name = document.createElement("b");
  name.className = "live-chat-name";
  name.textContent = text;
  name.toggleAttribute("data-me", text === `@${handle}`);
  return name;
}
