// The paintings under way, and the order in which the server is asked for them.

import { Painting, WAITING } from "./painting.js";

// A browser opens six connections to a server; one must stay free for everything else.
const AT_ONCE = 4;

export class Studio extends EventTarget {
  #server;
  #running = 0;
  #paintings = [];

  constructor(server) {
    super();
    this.#server = server;
  }

  start(values) {
    const painting = new Painting(values);
    this.#paintings = [...this.#paintings.filter((one) => !one.ended), painting];
    this.dispatchEvent(new CustomEvent("start", { detail: painting }));
    this.#next();
    return painting;
  }

  #next() {
    const next = this.#paintings.find((one) => one.state === WAITING);
    if (!next || this.#running >= AT_ONCE) return;
    this.#running += 1;
    next.run(this.#server).finally(() => {
      this.#running -= 1;
      this.#next();
    });
    this.#next();
  }
}
