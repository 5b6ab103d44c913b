// Courtesies only: everything on these pages works without this file. It points out what has just changed,
// to the eye for a moment and to a screen reader in one sentence.
const HIGHLIGHT_MS = 4000;

const highlightedUntil = new Map();
let seen = readOrders();

function orderElements() {
  return [...document.querySelectorAll("[id^='order-'][data-status]")];
}

function shownState(element) {
  return `${element.dataset.status} ${element.dataset.total}`;
}

function readOrders() {
  return new Map(orderElements().map((element) => [element.id, shownState(element)]));
}

function announce(changed) {
  const announcer = document.getElementById("live-announcer");
  if (!announcer || changed.length === 0) return;
  if (changed.length > 1) {
    announcer.textContent = announcer.dataset.many.replace("%count", changed.length);
    return;
  }
  const { number, statusLabel } = changed[0].dataset;
  announcer.textContent = announcer.dataset.one.replace("%number", number).replace("%status", statusLabel);
}

function showHighlights() {
  const now = performance.now();
  for (const element of orderElements()) {
    element.classList.toggle("is-changed", (highlightedUntil.get(element.id) ?? 0) > now);
  }
}

document.addEventListener("live:refreshed", () => {
  const changed = orderElements().filter((element) => seen.get(element.id) !== shownState(element));
  const until = performance.now() + HIGHLIGHT_MS;
  for (const element of changed) highlightedUntil.set(element.id, until);
  seen = readOrders();
  // A refresh writes the server's attributes, so the class of earlier changes is put back here as well.
  showHighlights();
  if (changed.length > 0) setTimeout(showHighlights, HIGHLIGHT_MS + 50);
  announce(changed);
});

// The detail page counts what happens to the other orders meanwhile.
const otherChanges = document.getElementById("other-changes");
if (otherChanges) {
  let count = 0;
  const ownOrder = Number(document.querySelector("article.order")?.id.replace("order-", ""));
  for (const topic of document.querySelectorAll("live-topic")) {
    topic.addEventListener("live:event", (event) => {
      if (event.detail?.data?.pk === ownOrder) return;
      count += 1;
      otherChanges.querySelector(".count__number").textContent = `+${count}`;
      otherChanges.hidden = false;
    });
  }
}
