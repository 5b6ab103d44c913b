/** A page in a browser that is not there: the globals of the client, from jsdom. */

import { JSDOM } from "jsdom";
import { defineElements } from "../../src/elements/define.js";
import { type Setup, setUp } from "./client.js";

const ADDRESS = "https://site.test/shop/orders/?page=2#top";

const GLOBALS = [
  "window",
  "document",
  "location",
  "customElements",
  "HTMLElement",
  "HTMLMediaElement",
  "Element",
  "CustomEvent",
  "Event",
  "DOMParser",
  "MutationObserver",
] as const;

export interface Page extends Setup {
  window: JSDOM["window"];
  document: Document;
}

/** Opens a page whose body is `html`. The elements are defined after it was read, as with a deferred script. */
export async function openPage(html = ""): Promise<Page> {
  const { window } = new JSDOM(`<!doctype html><title>Shop</title><body>${html}`, {
    url: ADDRESS,
    pretendToBeVisual: true,
  });
  for (const name of GLOBALS) Object.defineProperty(globalThis, name, { value: window[name], configurable: true });
  const { addEventListener, getSelection } = window;
  Object.assign(globalThis, {
    addEventListener: addEventListener.bind(window),
    getSelection: getSelection.bind(window),
  });
  const setup = setUp();
  defineElements(setup.live);
  return { ...setup, window, document: window.document };
}

/** Says that a page of the back/forward cache is shown, or hidden. */
export function transition(page: Page, type: "pagehide" | "pageshow", persisted: boolean): void {
  page.window.dispatchEvent(Object.assign(new page.window.Event(type), { persisted }));
}

export function setVisibility(page: Page, state: DocumentVisibilityState): void {
  Object.defineProperty(page.document, "visibilityState", { value: state, configurable: true });
  page.document.dispatchEvent(new page.window.Event("visibilitychange"));
}
