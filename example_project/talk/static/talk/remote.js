// The remote control: each lever is a call over the connection that the page has, and is answered.
const root = document.getElementById("roaster");
const { topic, cursor } = root.dataset;
const answer = root.querySelector("[data-answer]");

function show(state) {
  root.dataset.on = String(state.is_on);
  for (const place of root.querySelectorAll("[data-show]")) {
    const value = state[place.dataset.show];
    place.textContent = value === true ? root.dataset.textOn : value === false ? root.dataset.textOff : value || "–";
  }
  const lever = root.querySelector('[data-lever="is_on"]');
  lever.value = state.is_on ? "0" : "1";
  lever.textContent = state.is_on ? root.dataset.textTurnOff : root.dataset.textTurnOn;
}

async function ask(changes) {
  const began = performance.now();
  answer.textContent = root.dataset.textAsked;
  try {
    show(await live.call(topic, "set", changes));
    answer.textContent = root.dataset.textDone.replace("%s", String(Math.round(performance.now() - began)));
  } catch (error) {
    answer.textContent = error.message || root.dataset.textFailed;
  }
}

root.addEventListener("submit", (event) => {
  event.preventDefault();
  const { lever } = event.submitter.dataset;
  const value = lever === "is_on" ? event.submitter.value === "1" : event.target.elements[lever].valueAsNumber;
  void ask({ [lever]: value });
});

live.subscribe(topic, { changed: show, snapshot: show }, { cursor, transport: "ws" });
