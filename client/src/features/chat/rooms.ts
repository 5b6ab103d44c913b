/** `<live-chat-rooms>`: the reader's rooms, and how much is unread in each. */

import type { Live, Subscription } from "../../api.js";
import type { Row } from "./types.js";

class Room {
  private last: number;
  private read: number;

  constructor(
    readonly item: HTMLElement,
    private readonly text: string,
  ) {
    this.last = Number(item.dataset["last"]);
    this.read = Number(item.dataset["read"]);
  }

  know(last: number, read: number): void {
    this.last = Math.max(this.last, last);
    this.read = Math.max(this.read, read);
    const unread = Math.max(0, this.last - this.read);
    const badge = this.item.querySelector<HTMLElement>('[data-part="unread"]');
    if (!badge) return;
    badge.hidden = !unread;
    badge.textContent = this.text.replace("%s", String(unread));
  }
}

export function liveChatRooms(live: Live): CustomElementConstructor {
  return class extends HTMLElement {
    private subscriptions: Subscription[] = [];

    connectedCallback(): void {
      const me = this.dataset["me"];
      const rooms = new Map<string, Room>();
      for (const item of this.querySelectorAll<HTMLElement>("[data-room]")) {
        const room = new Room(item, this.dataset["textUnread"] ?? "%s");
        rooms.set(item.dataset["room"]!, room);
        const { topic, cursor } = item.dataset;
        if (!topic) continue;
        const message = (data: unknown): void => {
          const { number, author } = data as Row;
          room.know(number, author?.id === me ? number : 0);
        };
        this.subscriptions.push(live.subscribe(topic, { message }, { cursor }));
      }
      const reader = this.getAttribute("reader");
      if (!reader) return;
      this.subscriptions.push(
        live.subscribe(reader, {
          read: (data) => {
            const { room, number } = data as { room: number; number: number };
            rooms.get(String(room))?.know(0, number);
          },
          snapshot: (data) => {
            const { read } = data as { read: Record<string, { number: number; last: number }> };
            for (const [room, { number, last }] of Object.entries(read)) rooms.get(room)?.know(last, number);
          },
        }),
      );
    }

    disconnectedCallback(): void {
      for (const one of this.subscriptions.splice(0)) one.unsubscribe();
    }
  };
}
