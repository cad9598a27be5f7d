// What stands where the first picture will be.

import { element, icon } from "./elements.js";

const IDEAS = [
  "a red house in the snow at night",
  "a white lighthouse by the sea at dawn",
  "a yellow balloon over a meadow, with a rainbow",
];

/** try_: what a click on an idea does with it. */
export function welcome(try_) {
  const ideas = IDEAS.map((idea) =>
    element("button", { type: "button", onclick: () => try_(idea) }, idea),
  );
  return element(
    "div",
    { className: "easel welcome" },
    icon("shell"),
    element("h2", {}, "Say what to paint"),
    element("p", { className: "hint" }, "Or begin with one of these."),
    element("div", { className: "tools" }, ...ideas),
  );
}

/** There is nothing that could paint: why, and what `act` of [label, run] can do about it. */
export function unable(title, text, act) {
  const [label, run] = act ?? [];
  const button = label && element("button", { type: "button", onclick: run }, label);
  return element(
    "div",
    { className: "easel welcome" },
    icon("shell"),
    element("h2", {}, title),
    element("p", { className: "hint" }, text),
    button || element("a", { href: "#models" }, "See the models"),
  );
}
