// Copying. The clipboard's own interface is there on localhost and over TLS only.

import { note } from "./announce.js";
import { element } from "./elements.js";

export async function copy(text, what) {
  const done = (await copied(text)) || copiedByHand(text);
  note(done ? `${what} copied.` : "The browser does not let this page copy.");
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

function copiedByHand(text) {
  const area = element("textarea", { value: text, className: "unseen" });
  (document.querySelector("dialog[open]") ?? document.body).append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}
