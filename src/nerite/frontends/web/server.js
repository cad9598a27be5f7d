// The server's public API; the only file that asks for anything.

import { events } from "./events.js";

/** What the server refused, in its own words. status 0: it could not be reached. */
export class ServerError extends Error {
  constructor(status, message, more = {}) {
    super(message);
    this.status = status;
    this.param = more.param ?? null;
    this.code = more.code ?? null;
    this.requestId = more.requestId ?? null;
    this.retryAfter = more.retryAfter ?? null;
  }
}

export class Server {
  /** base: where the page was found, so that a proxy may put it below another path. */
  constructor(keys, base = document.baseURI) {
    this.keys = keys;
    this.base = new URL(".", base);
  }

  get origin() {
    return this.base.href.replace(/\/$/, "");
  }

  async json(path, body, signal) {
    const response = await this.#ask(path, body, signal);
    const text = await response.text();
    return text ? JSON.parse(text) : null;
  }

  async text(path) {
    return (await this.#ask(path)).text();
  }

  /** The events of a streamed answer. Throws ServerError, also for one in mid-stream. */
  async *stream(path, body, signal) {
    const response = await this.#ask(path, body, signal);
    try {
      for await (const event of events(response.body)) {
        if (event.error) throw errorOf(response, event.error);
        yield event;
      }
    } catch (error) {
      throw error instanceof TypeError ? unreachable() : error;
    }
  }

  async #ask(path, body, signal) {
    for (;;) {
      const used = this.keys.value;
      const response = await this.#fetch(path, body, signal);
      if (response.ok) return response;
      const error = await readError(response);
      if (response.status !== 401 || !(await this.keys.another(used, error.message))) throw error;
    }
  }

  async #fetch(path, body, signal) {
    const headers = { ...this.keys.headers };
    const wanted = { headers, signal, cache: "no-store", credentials: "same-origin" };
    if (body !== undefined) {
      wanted.method = "POST";
      wanted.body = JSON.stringify(body);
      headers["Content-Type"] = "application/json";
    }
    try {
      return await fetch(new URL(path, this.base), wanted);
    } catch (error) {
      throw error.name === "AbortError" ? error : unreachable();
    }
  }
}

// Of an error in mid-stream, whose answer had begun well.
const MIDSTREAM = { invalid_request_error: 400, rate_limit_error: 429 };

function unreachable() {
  return new ServerError(0, "The server does not answer. Is it still running?");
}

/** /v1 says {"error": {...}}, /v2 says {"error": "text"}. */
async function readError(response) {
  const text = await response.text().catch(() => "");
  try {
    return errorOf(response, JSON.parse(text).error);
  } catch {
    return errorOf(response, text.slice(0, 500));
  }
}

function errorOf(response, said) {
  const known = typeof said === "object" && said !== null ? said : { message: said };
  const message = String(known.message || `The server answered ${response.status}.`);
  const status = response.ok ? (MIDSTREAM[known.type] ?? 500) : response.status;
  return new ServerError(status, message, {
    param: known.param,
    code: known.code,
    requestId: response.headers.get("x-request-id"),
    retryAfter: Number(response.headers.get("retry-after")) || null,
  });
}
