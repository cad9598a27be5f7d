// What is said to a screen reader, and the short notes at the foot of the page.

import { byId, element } from "./elements.js";

const SECONDS = 8;

export function say(text) {
  byId("said").textContent = text;
}

/** A note that goes by itself; `act` names what its button does. */
export function note(text, act = "", run = () => {}) {
  const toast = element("div", { className: "toast" }, element("span", {}, text));
  const leave = () => toast.remove();
  if (act) {
    const button = element("button", { type: "button", onclick: () => (leave(), run()) }, act);
    toast.append(button);
  }
  byId("toasts").replaceChildren(toast); // one at a time
  say(text);
  setTimeout(leave, SECONDS * 1000);
}

/** Ask before what cannot be undone; true when it shall be done. */
export function sure(title, text, yes) {
  const dialog = byId("sure");
  byId("sure-title").textContent = title;
  byId("sure-text").textContent = text;
  byId("sure-yes").textContent = yes;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((answer) => {
    dialog.addEventListener("close", () => answer(dialog.returnValue === "yes"), { once: true });
  });
}
