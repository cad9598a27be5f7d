// The API view: the request of the form in four languages.

import { copy } from "./clipboard.js";
import { byId, element, icon } from "./elements.js";
import { snippets } from "./snippets.js";

export class ApiView {
  #server;
  #form;

  constructor(server, form) {
    this.#server = server;
    this.#form = form;
  }

  show() {
    const { source } = this.#form;
    const values = { ...this.#form.values, image: source.chosen, mask: source.masked };
    if (values.n === 1) delete values.n;
    if (!values.prompt) values.prompt = byId("prompt").placeholder;
    const found = snippets(this.#server.origin, values, Boolean(this.#server.keys.value));
    this.#offerFiles();
    byId("snippets").replaceChildren(...found.map(([title, text]) => snippet(title, text)));
  }

  hide() {}

  /** picture.png and mask.png, for the commands that name them. */
  async #offerFiles() {
    const blobs = await this.#form.source.blobs();
    byId("files").hidden = !blobs.image;
    for (const [id, blob] of [["file-picture", blobs.image], ["file-mask", blobs.mask]]) {
      if (byId(id).href) URL.revokeObjectURL(byId(id).href);
      byId(id).hidden = !blob;
      if (blob) byId(id).href = URL.createObjectURL(blob);
    }
  }
}

function snippet(title, text) {
  const act = { type: "button", className: "quiet", onclick: () => copy(text, title) };
  const button = element("button", act, icon("copy"), "Copy");
  button.setAttribute("aria-label", `Copy the text for ${title}`);
  const heading = element("div", { className: "heading" }, element("h2", {}, title), button);
  const code = element("pre", { tabIndex: 0 }, element("code", {}, text));
  code.setAttribute("role", "region");
  code.setAttribute("aria-label", title);
  return element("section", { className: "snippet" }, heading, code);
}
