// The models of the server: ready, loading or failed with the reason; loading and unloading.

import { note, say } from "./announce.js";
import { byId, element } from "./elements.js";
import { explain } from "./problems.js";

const FIXED =
  "This server decides itself which models are loaded. Started with " +
  "--model-control-mode=explicit it lets you choose.";
const SOON = 1000; // between two looks while a model comes or goes
const STATES = {
  READY: ["Ready", "good"],
  LOADING: ["Loading", "busy"],
  UNLOADING: ["Unloading", "busy"],
  UNAVAILABLE: ["Failed", "bad"],
  UNLOADED: ["Not loaded", ""],
};

export class ModelsView {
  #server;
  #catalog;
  #busy = new Map(); // name → LOADING or UNLOADING, as asked from here
  #problems = new Map(); // name → the server's words
  #entries = [];
  #timer = 0;
  #shown = false;

  constructor(server, catalog) {
    this.#server = server;
    this.#catalog = catalog;
    byId("models-refresh").addEventListener("click", () => this.refresh());
    catalog.addEventListener("change", () => this.#draw());
  }

  show() {
    this.#shown = true;
    this.refresh();
  }

  hide() {
    this.#shown = false;
    clearTimeout(this.#timer);
  }

  async refresh() {
    clearTimeout(this.#timer);
    try {
      this.#entries = await this.#server.json("v2/repository/index", {});
      await this.#catalog.refresh();
      this.#notice("");
    } catch (error) {
      this.#notice(`${explain(error).title}: ${error.message}`, true);
    }
    this.#draw();
    const moving = this.#entries.some((one) => STATES[one.state]?.[1] === "busy");
    if (this.#shown && moving) this.#timer = setTimeout(() => this.refresh(), SOON);
  }

  async #ask(name, verb) {
    const [doing, done] = verb === "load" ? ["LOADING", "loaded"] : ["UNLOADING", "unloaded"];
    this.#busy.set(name, doing);
    this.#problems.delete(name);
    this.#draw();
    say(`${name}: ${doing.toLowerCase()}`);
    try {
      await this.#server.json(`v2/repository/models/${encodeURIComponent(name)}/${verb}`, {});
      note(`${name} is ${done}.`);
    } catch (error) {
      this.#refused(name, verb, error);
    }
    this.#busy.delete(name);
    await this.refresh();
    this.#button(name)?.focus();
  }

  #refused(name, verb, error) {
    const text = `${name} could not be ${verb}ed. ${error.message}`;
    this.#problems.set(name, text);
    say(text);
  }

  get #fixed() {
    return this.#catalog.control !== "explicit";
  }

  #notice(text, bad = false) {
    const notice = byId("models-notice");
    notice.textContent = text || (this.#fixed ? FIXED : "");
    notice.hidden = !notice.textContent;
    notice.classList.toggle("bad", bad);
  }

  #draw() {
    if (!this.#shown) return;
    const had = document.activeElement?.dataset?.model;
    byId("models").replaceChildren(...this.#entries.map((one) => this.#row(one)));
    if (!this.#entries.length) {
      byId("models").append(element("li", { className: "hint" }, "There is no model here."));
    }
    if (had) this.#button(had)?.focus();
  }

  #button(name) {
    const buttons = [...byId("models").querySelectorAll("[data-model]")];
    return buttons.find((one) => one.dataset.model === name && !one.disabled);
  }

  #row(entry) {
    const state = this.#stateOf(entry);
    const [word, look] = STATES[state] ?? [state, ""];
    const version = entry.version ? `version ${entry.version}` : "";
    const facts = [version, this.#facts(entry.name)].filter(Boolean).join(" · ");
    const reason = this.#problems.get(entry.name) ?? (state === "UNAVAILABLE" ? entry.reason : "");
    const name = element("h2", {}, entry.name);
    const badge = element("span", { className: `badge ${look}` }, word);
    return element(
      "li",
      { className: "model" },
      element("div", { className: "name" }, name, badge),
      element("p", { className: "facts" }, facts),
      this.#fixed ? "" : element("div", { className: "tools" }, this.#loading(entry.name, state)),
      reason ? element("div", { className: "fault" }, reason) : "",
    );
  }

  #stateOf({ name, state, reason }) {
    const asked = this.#busy.get(name);
    if (asked) return asked;
    const unloaded = state === "UNAVAILABLE" && (!reason || reason === "unloaded");
    return !state || unloaded ? "UNLOADED" : state;
  }

  #facts(name) {
    const model = this.#catalog.find(name);
    if (!model) return "";
    const size = model.size ? `${model.size[0]} × ${model.size[1]} pixels` : "";
    const can = ["from text", model.edits && "from pictures", model.masks && "under masks"];
    return [`paints ${can.filter(Boolean).join(", ")}`, size].filter(Boolean).join(" · ");
  }

  #loading(name, state) {
    const verb = state === "READY" ? "unload" : "load";
    const label = verb === "load" ? "Load" : "Unload";
    const act = { type: "button", onclick: () => this.#ask(name, verb) };
    const button = element("button", act, label);
    button.setAttribute("aria-label", `${label} ${name}`);
    button.disabled = STATES[state]?.[1] === "busy";
    button.dataset.model = name;
    return button;
  }
}
