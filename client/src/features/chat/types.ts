/** What the server tells of messages, and what the pieces of the panel ask of it. */

export interface Person {
  readonly id: string;
  readonly name: string;
}

export interface FileRow {
  readonly id: string;
  readonly name: string;
  readonly size: number;
  readonly is_image: boolean;
  readonly url: string;
}

export interface Row {
  readonly id: number;
  readonly number: number;
  readonly client_id: string;
  readonly author: Person | null;
  readonly text: string;
  readonly at: string;
  readonly edited: boolean;
  readonly deleted: boolean;
  readonly reply_to: { readonly id: number; readonly author: Person | null; readonly text: string } | null;
  readonly files: readonly FileRow[];
  readonly reactions: Readonly<Record<string, number>>;
  readonly mine?: readonly string[];
}

export interface Reacted {
  readonly id: number;
  readonly reactions: Readonly<Record<string, number>>;
  readonly by: string;
  readonly code: string;
  readonly on: boolean;
}

export interface Read extends Person {
  readonly number: number;
}

/** What the pieces know of the panel that they are in. */
export interface Panel {
  readonly me: string;
  readonly handle: string;
  readonly myName: string;
  readonly isModerator: boolean;
  readonly signs: Readonly<Record<string, string>>;
  /** A piece of the server-rendered content. */
  piece<E extends HTMLElement = HTMLElement>(name: string): E | null;
  /** A text in the reader's language, with what stands for its `%s`. */
  text(name: string, ...values: string[]): string;
}
