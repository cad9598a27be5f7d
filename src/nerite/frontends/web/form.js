// What the person asks for: the form's fields as one plain object, and back.

import { byId, element } from "./elements.js";
import { keep, kept } from "./kept.js";
import { SizeField } from "./size.js";
import { SourceField } from "./source.js";

const TEXTS = ["prompt", "negative_prompt", "scheduler", "seed", "model"];
const NUMBERS = ["steps", "guidance_scale", "n"];
const SEEDS = 2 ** 32;

export class Form extends EventTarget {
  #catalog;
  #last = null; // the seed of the last picture

  constructor(catalog) {
    super();
    this.#catalog = catalog;
    const changed = () => this.#changed();
    this.size = new SizeField(() => (this.source?.fit(), changed()));
    this.source = new SourceField(() => this.size.pixels, changed);
    catalog.addEventListener("change", () => this.#offerModels());
    byId("model").addEventListener("change", () => this.#offerSettings());
    byId("dice").addEventListener("click", () => this.#seed(Math.floor(Math.random() * SEEDS)));
    byId("reuse").addEventListener("click", () => this.#seed(this.#last));
    this.#listen(changed);
    this.#fill(kept("form") ?? {});
    byId("settings").open = matchMedia("(min-width: 56.01rem)").matches;
  }

  #listen(changed) {
    const form = byId("form");
    form.addEventListener("input", changed);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.dispatchEvent(new Event("paint"));
    });
    form.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    });
  }

  /** All that is set; what is not stays the model's choice and is left out. */
  get values() {
    const found = {};
    for (const name of TEXTS) if (byId(name).value.trim()) found[name] = byId(name).value.trim();
    for (const name of NUMBERS) {
      if (byId(name).value !== "") found[name] = Number(byId(name).value);
    }
    // A seed of digits is a number; of anything else the server says what is wrong with it.
    if (/^-?\d+$/.test(found.seed ?? "")) found.seed = Number(found.seed);
    if (this.size.value) found.size = this.size.value;
    if (this.source.chosen) found.strength = this.source.strength;
    return found;
  }

  /** The same with the pictures to begin with, as blobs. */
  async read() {
    return { ...this.values, ...(await this.source.blobs()) };
  }

  /** Show `values` in place of what stands there. */
  async write(values) {
    this.#fill(values);
    if (values.image) await this.source.put(values.image, values);
    else this.source.remove();
    this.#changed();
  }

  set lastSeed(seed) {
    this.#last = seed;
    byId("reuse").disabled = seed === null || seed === undefined;
  }

  /** Say `text` below the field `name` and go there; false when there is no such field. */
  complain(name, text) {
    const place = byId(`${name}-problem`);
    if (!place) return false;
    place.textContent = text;
    place.hidden = false;
    const field = byId(name === "image" ? "file" : name);
    if (byId("settings").contains(place)) byId("settings").open = true;
    if (name === "image" || name === "mask" || !field) return true;
    field.setAttribute("aria-invalid", "true");
    const described = field.getAttribute("aria-describedby") ?? "";
    if (!described.includes(place.id)) {
      field.setAttribute("aria-describedby", `${described} ${place.id}`.trim());
    }
    field.focus();
    return true;
  }

  forgive() {
    for (const place of byId("form").querySelectorAll(".problem")) place.hidden = true;
    for (const field of byId("form").querySelectorAll("[aria-invalid]")) {
      field.removeAttribute("aria-invalid");
    }
  }

  #fill(values) {
    for (const name of [...TEXTS, ...NUMBERS]) {
      if (name !== "model" && name !== "scheduler") byId(name).value = values[name] ?? "";
    }
    byId("n").value = values.n ?? 1;
    this.wanted = { size: "", scheduler: "", ...values }; // the choices may still be on their way
    this.#offerModels();
  }

  #offerModels() {
    const chosen = this.wanted?.model ?? byId("model").value;
    const options = this.#catalog.models.map((one) => {
      const ready = (one.state ?? "READY") === "READY";
      const name = ready ? one.id : `${one.id} (${one.state.toLowerCase()})`;
      return element("option", { value: one.id, disabled: !ready }, name);
    });
    byId("model").replaceChildren(...options);
    const known = this.#catalog.ready.some((one) => one.id === chosen);
    byId("model").value = known ? chosen : (this.#catalog.preferred?.id ?? "");
    this.#offerSettings();
  }

  #offerSettings() {
    const model = this.#catalog.find(byId("model").value);
    const scheduler = this.wanted?.scheduler ?? byId("scheduler").value;
    const names = model?.schedulers ?? [];
    byId("scheduler").replaceChildren(
      element("option", { value: "" }, "The model's own"),
      ...names.map((name) => element("option", { value: name }, name)),
    );
    byId("scheduler").value = names.includes(scheduler) ? scheduler : "";
    byId("steps").placeholder = model?.steps ?? "";
    byId("steps").max = model?.max_steps ?? 1000;
    byId("guidance_scale").placeholder = model?.guidance_scale ?? "";
    this.size.offer(model, this.wanted?.size);
    byId("source").hidden = model?.edits === false;
    byId("mask-toggle").hidden = model?.masks === false;
    if (model) this.wanted = null;
    this.#changed();
  }

  #seed(value) {
    byId("seed").value = value;
    this.#changed();
  }

  #changed() {
    if (!this.wanted) keep("form", this.values);
    this.dispatchEvent(new Event("change"));
  }
}
