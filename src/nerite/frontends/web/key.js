// The API key, asked for when the server first answers 401.

import { byId } from "./elements.js";
import { keep, kept } from "./kept.js";

const SESSION = () => sessionStorage;

export class KeyRing {
  #asking = null;

  constructor() {
    this.value = kept("key", SESSION) ?? kept("key") ?? "";
  }

  get headers() {
    return this.value ? { Authorization: `Bearer ${this.value}` } : {};
  }

  /** Until there is another key than `refused`; false when the person gives none. */
  another(refused, problem) {
    if (this.value !== refused) return Promise.resolve(true);
    this.#asking ??= this.#ask(refused ? problem : "").finally(() => (this.#asking = null));
    return this.#asking;
  }

  #ask(problem) {
    const dialog = byId("key");
    byId("key-problem").textContent = problem;
    byId("key-problem").hidden = !problem;
    byId("key-value").value = "";
    dialog.showModal();
    return new Promise((answer) => {
      byId("key-cancel").onclick = () => dialog.close("");
      byId("key-form").onsubmit = (event) => {
        event.preventDefault();
        this.#take(byId("key-value").value.trim(), byId("key-remember").checked);
        dialog.close("given");
      };
      dialog.returnValue = "";
      dialog.onclose = () => answer(dialog.returnValue === "given");
    });
  }

  #take(value, remember) {
    this.value = value;
    keep("key", value, SESSION);
    keep("key", remember ? value : null);
  }
}
