// The models that paint, and what each of them can do.

export class Catalog extends EventTarget {
  #server;

  constructor(server) {
    super();
    this.#server = server;
    this.models = [];
    this.control = ""; // none, poll or explicit: who decides which models are loaded
  }

  async refresh() {
    const { data, nerite } = await this.#server.json("v1/models");
    this.control = nerite?.model_control ?? "explicit";
    this.models = data.filter((one) => one.nerite).map((one) => ({ id: one.id, ...one.nerite }));
    this.dispatchEvent(new Event("change"));
  }

  get ready() {
    return this.models.filter((one) => (one.state ?? "READY") === "READY");
  }

  get preferred() {
    return this.ready.find((one) => one.default) ?? this.ready[0] ?? null;
  }

  find(id) {
    return this.models.find((one) => one.id === id) ?? null;
  }
}
