// Which view is shown: the part of the address behind the #, so that Back goes back.

import { byId } from "./elements.js";

export class Views {
  #parts; // name → what is told that it is shown or hidden
  #shown = null;

  constructor(parts) {
    this.#parts = parts;
    addEventListener("hashchange", () => this.#go(true));
  }

  begin() {
    this.#go(false);
  }

  #go(moved) {
    const name = location.hash.slice(1) || "paint";
    if (!(name in this.#parts)) return; // the skip link's
    if (this.#shown) this.#parts[this.#shown].hide();
    this.#shown = name;
    for (const one of Object.keys(this.#parts)) byId(`view-${one}`).hidden = one !== name;
    for (const link of document.querySelectorAll("nav a")) {
      if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    const title = document.querySelector(`#view-${name} h1`).textContent;
    document.title = `${title} · nerite`;
    this.#parts[name].show();
    if (moved) {
      scrollTo(0, 0);
      byId("main").focus({ preventScroll: true });
    }
  }
}
