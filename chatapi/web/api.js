// The public HTTP API (docs/http.md), as the page uses it: nothing here is for the page alone.

/**
 * @typedef {import("./types.d.ts").Config} Config
 * @typedef {import("./types.d.ts").Hit} Hit
 * @typedef {import("./types.d.ts").Message} Message
 * @typedef {import("./types.d.ts").Prices} Prices
 * @typedef {import("./types.d.ts").Session} Session
 * @typedef {import("./types.d.ts").UsageReport} UsageReport
 */
/**
 * @template T
 * @typedef {import("./types.d.ts").Page<T>} Page
 */

/** The server said no, in a sentence that a person can read. */
export class Problem extends Error {
  /**
   * @param {string} message
   * @param {number} status
   * @param {string | null} code the API's own; null where somebody else answered, such as a proxy
   * @param {Headers} headers
   */
  constructor(message, status, code, headers) {
    super(message);
    this.status = status;
    this.code = code;
    const seconds = Number(headers.get("Retry-After") ?? NaN);
    /** Seconds to wait, if the server named some. */
    this.retryAfter = Number.isFinite(seconds) ? seconds : null;
    this.sessionId = headers.get("X-Session-ID");
    this.generationId = headers.get("X-Generation-ID");
  }
}

/** No answer came: no network, no server, or a connection that broke. */
export class Unreachable extends Error {}

const EVENTS = "text/event-stream";
const PATIENCE_SECONDS = 60; // for the beginning of a response; the server breaks each silence of its own long before
const KEPT_ALIVE_BYTES = 60_000; // browsers let no more outlive a page
const SLOWEST_BYTES_A_SECOND = 20_000; // of what is sent: a body takes its time

/**
 * @typedef {object} Asking
 * @property {unknown} [body]
 * @property {Record<string, string>} [headers]
 * @property {AbortSignal} [signal]
 * @property {boolean} [keepalive] outlives the page, if it is not too large for that
 */

export class Api {
  /** Goes along with every request, as a header. @type {string | null} */
  key = null;

  /**
   * @param {string} method
   * @param {string} path
   * @param {Asking} [asking]
   * @returns {Promise<Response>}
   * @throws {Problem | Unreachable}
   */
  async request(method, path, { body, headers = {}, signal, keepalive = false } = {}) {
    const all = new Headers(headers);
    if (this.key !== null) all.set("Authorization", `Bearer ${this.key}`);
    if (body !== undefined) all.set("Content-Type", "application/json");
    const text = body === undefined ? undefined : JSON.stringify(body);
    const impatience = new AbortController();
    const patience = PATIENCE_SECONDS + (text ?? "").length / SLOWEST_BYTES_A_SECOND;
    const timer = setTimeout(() => impatience.abort(), patience * 1000);
    const either = signal === undefined ? impatience.signal : AbortSignal.any([signal, impatience.signal]);
    const outlives = keepalive && new Blob([text ?? ""]).size < KEPT_ALIVE_BYTES;
    /** @type {RequestInit} */
    const asking = { method, headers: all, body: text, signal: either, keepalive: outlives, cache: "no-store" };
    let response;
    try {
      response = await fetch(path, asking);
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new Unreachable();
    } finally {
      clearTimeout(timer);
    }
    if (!response.ok) throw await problemOf(response);
    return response;
  }

  /**
   * @template T
   * @param {string} method
   * @param {string} path
   * @param {Asking} [asking]
   * @returns {Promise<T>}
   */
  async #json(method, path, asking) {
    const response = await this.request(method, path, asking);
    try {
      return await response.json();
    } catch {
      throw new Unreachable(); // it broke off in the middle
    }
  }

  /** @returns {Promise<Config>} */
  config() {
    return this.#json("GET", "/api/config");
  }

  /** @returns {Promise<Prices>} */
  prices() {
    return this.#json("GET", "/api/prices");
  }

  /**
   * @param {string} key
   * @returns {Promise<{valid: boolean, message: string}>}
   */
  testKey(key) {
    return this.#json("POST", "/api/test-key", { body: { api_key: key } });
  }

  /** @returns {Promise<string[]>} the ids of the models that the key may use */
  async models() {
    /** @type {{data: {id: string}[]}} */
    const list = await this.#json("GET", "/v1/models");
    return list.data.map((model) => model.id).sort();
  }

  /**
   * @param {string | null} cursor
   * @returns {Promise<Page<Session>>} the last used first
   */
  sessions(cursor) {
    return this.#json("GET", `/api/sessions?${query({ sort: "updated", limit: "50", cursor })}`);
  }

  /**
   * @param {string} id
   * @returns {Promise<Session>}
   */
  session(id) {
    return this.#json("GET", pathOf(id));
  }

  /**
   * @param {string} id
   * @param {{title?: string, developer_message?: string, metadata?: Record<string, string>, head?: string}} change
   * @returns {Promise<Session>}
   */
  changeSession(id, change) {
    return this.#json("PATCH", pathOf(id), { body: change, keepalive: true });
  }

  /**
   * @param {string} id
   * @param {boolean} leaving whether the page is about to go
   */
  async deleteSession(id, leaving) {
    await this.request("DELETE", pathOf(id), { keepalive: leaving });
  }

  /**
   * @param {string} id
   * @param {string} messageId
   * @returns {Promise<Session>} a new one, with a copy of the path to that message
   */
  fork(id, messageId) {
    return this.#json("POST", `${pathOf(id)}/fork`, { body: { message_id: messageId } });
  }

  /**
   * @param {string} id
   * @param {string | null} cursor
   * @param {number} [limit]
   * @returns {Promise<Page<Message>>} the active path, the last first
   */
  messages(id, cursor, limit = 50) {
    return this.#json("GET", `${pathOf(id)}/messages?${query({ order: "desc", limit: String(limit), cursor })}`);
  }

  /**
   * @param {string} words
   * @param {string | null} cursor
   * @param {AbortSignal} signal
   * @returns {Promise<Page<Hit>>}
   */
  search(words, cursor, signal) {
    return this.#json("GET", `/api/search?${query({ q: words, cursor })}`, { signal });
  }

  /**
   * @param {string} id
   * @param {"markdown" | "json"} format
   * @returns {Promise<{name: string, content: Blob}>}
   */
  async export(id, format) {
    const response = await this.request("GET", `${pathOf(id)}/export?${query({ format })}`);
    const disposition = response.headers.get("Content-Disposition") ?? "";
    const name = /filename="([^"]+)"/.exec(disposition)?.[1] ?? (format === "json" ? "chat.json" : "chat.md");
    try {
      return { name, content: await response.blob() };
    } catch {
      throw new Unreachable();
    }
  }

  /**
   * @param {unknown} document what an export gave
   * @returns {Promise<Session>}
   */
  import(document) {
    return this.#json("POST", "/api/sessions/import", { body: document });
  }

  /**
   * @param {string} from the first day, YYYY-MM-DD
   * @param {string} to the last
   * @param {string} by
   * @returns {Promise<UsageReport>}
   */
  usage(from, to, by) {
    return this.#json("GET", `/api/usage?${query({ from, to, by })}`);
  }

  /**
   * Send a message; the answer comes as events. Throws a Problem also where what comes is something else.
   * @param {object} body
   * @param {string} idempotencyKey repeated with the same, it is sent once
   * @param {AbortSignal} signal
   */
  send(body, idempotencyKey, signal) {
    const headers = { Accept: EVENTS, "Idempotency-Key": idempotencyKey };
    return this.#events("POST", "/api/chat", { body, headers, signal });
  }

  /**
   * The rest of an answer, as events. The same holds.
   * @param {string} id
   * @param {string} generationId
   * @param {number} position what has come already
   * @param {AbortSignal} signal
   */
  resume(id, generationId, position, signal) {
    const headers = { Accept: EVENTS, "Last-Event-ID": String(position) };
    return this.#events("GET", `/api/chat/${id}/stream?${query({ generation_id: generationId })}`, { headers, signal });
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {Asking} asking
   */
  async #events(method, path, asking) {
    const response = await this.request(method, path, asking);
    const { status, headers } = response;
    if (headers.get("Content-Type")?.startsWith(EVENTS)) return response;
    await response.body?.cancel();
    throw new Problem(`HTTP ${status}`, status, null, headers); // the sign-in page of a network, say
  }

  /**
   * @param {string} id
   * @param {string} generationId
   * @param {AbortSignal} [signal]
   */
  async stop(id, generationId, signal) {
    await this.request("POST", `/api/chat/${id}/stop`, { body: { generation_id: generationId }, signal });
  }
}

/** @param {string} id of a session; whatever the address bar had instead leads nowhere else */
function pathOf(id) {
  return `/api/sessions/${encodeURIComponent(id)}`;
}

/** @param {Record<string, string | null>} values null ones are left out */
function query(values) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) if (value !== null) parameters.set(name, value);
  return parameters.toString();
}

/**
 * What an error response says: this API's own form, OpenAI's, or nothing that we know.
 * @param {Response} response
 * @returns {Promise<Problem>}
 */
async function problemOf(response) {
  let said = null;
  try {
    said = await response.json();
  } catch {
    // Not ours; a proxy's page, or cut off.
  }
  const { status, headers } = response;
  const { detail, code, errors, error } = said !== null && typeof said === "object" ? said : {};
  if (typeof error?.message === "string") return new Problem(error.message, status, "error", headers);
  if (typeof detail !== "string") return new Problem(`HTTP ${status}`, status, null, headers);
  const fields = Array.isArray(errors) ? errors.map(({ field, message }) => `${field}: ${message}`) : [];
  const sentence = fields.length ? fields.join(" ") : detail;
  return new Problem(sentence, status, typeof code === "string" ? code : "seed", headers);
}
