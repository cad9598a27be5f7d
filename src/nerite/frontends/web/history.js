// The pictures that were painted here, kept by this browser (IndexedDB) and nowhere else.

const NAME = "nerite";
const STORE = "pictures";

export class History {
  #database = null;
  #memory = []; // where the browser keeps nothing
  #next = 1;

  /** False when the browser keeps nothing: pictures then last until the page is left. */
  async open() {
    try {
      const opening = indexedDB.open(NAME, 1);
      opening.onupgradeneeded = () => {
        opening.result.createObjectStore(STORE, { keyPath: "id", autoIncrement: true });
      };
      this.#database = await settled(opening);
      return true;
    } catch {
      return false;
    }
  }

  /** The record with its id. Full storage makes room by letting the oldest go. */
  async add(record) {
    if (!this.#database) return this.#remember(record);
    for (;;) {
      try {
        const id = await this.#do("readwrite", (store) => store.add(record));
        return { ...record, id };
      } catch (error) {
        if (error.name !== "QuotaExceededError" || !(await this.#dropOldest())) {
          return this.#remember(record);
        }
      }
    }
  }

  /** At most `count` records, newest first, older than `before` where it is given. */
  async page(count, before = null) {
    if (!this.#database) {
      return this.#memory.filter((one) => before === null || one.id < before).slice(0, count);
    }
    const range = before === null ? null : IDBKeyRange.upperBound(before, true);
    const store = this.#database.transaction(STORE).objectStore(STORE);
    const asking = store.openCursor(range, "prev");
    return new Promise((done, failed) => {
      const found = [];
      asking.onerror = () => failed(asking.error);
      asking.onsuccess = () => {
        const cursor = asking.result;
        if (cursor) found.push(cursor.value);
        if (!cursor || found.length === count) done(found);
        else cursor.continue();
      };
    });
  }

  async remove(id) {
    this.#memory = this.#memory.filter((one) => one.id !== id);
    if (this.#database) await this.#do("readwrite", (store) => store.delete(id));
  }

  /** A removed record, back where it was. */
  async restore(record) {
    if (this.#database) await this.#do("readwrite", (store) => store.put(record));
    else this.#memory = [...this.#memory, record].sort((one, other) => other.id - one.id);
  }

  async clear() {
    this.#memory = [];
    if (this.#database) await this.#do("readwrite", (store) => store.clear());
  }

  #do(mode, act) {
    const transaction = this.#database.transaction(STORE, mode);
    const asked = act(transaction.objectStore(STORE));
    return new Promise((done, failed) => {
      transaction.oncomplete = () => done(asked.result);
      transaction.onabort = () => failed(transaction.error);
      transaction.onerror = () => failed(transaction.error);
    });
  }

  async #dropOldest() {
    const store = this.#database.transaction(STORE, "readwrite").objectStore(STORE);
    const cursor = await settled(store.openCursor());
    if (!cursor) return false;
    await settled(cursor.delete());
    return true;
  }

  #remember(record) {
    const kept = { ...record, id: this.#next++ };
    this.#memory.unshift(kept);
    return kept;
  }
}

function settled(request) {
  return new Promise((done, failed) => {
    request.onsuccess = () => done(request.result);
    request.onerror = () => failed(request.error);
    request.onblocked = () => failed(new Error("another page holds the history"));
  });
}
