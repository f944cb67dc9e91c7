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

/**
 * @typedef {object} Asking
 * @property {unknown} [body]
 * @property {Record<string, string>} [headers]
 * @property {AbortSignal} [signal]
 * @property {boolean} [keepalive] outlives the page
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
    let response;
    try {
      const text = body === undefined ? undefined : JSON.stringify(body);
      response = await fetch(path, { method, headers: all, body: text, signal, keepalive, cache: "no-store" });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new Unreachable();
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
    return this.#json("GET", `/api/sessions/${id}`);
  }

  /**
   * @param {string} id
   * @param {{title?: string, developer_message?: string, metadata?: Record<string, string>, head?: string}} change
   * @returns {Promise<Session>}
   */
  changeSession(id, change) {
    return this.#json("PATCH", `/api/sessions/${id}`, { body: change, keepalive: true });
  }

  /**
   * @param {string} id
   * @param {boolean} leaving whether the page is about to go
   */
  async deleteSession(id, leaving) {
    await this.request("DELETE", `/api/sessions/${id}`, { keepalive: leaving });
  }

  /**
   * @param {string} id
   * @param {string} messageId
   * @returns {Promise<Session>} a new one, with a copy of the path to that message
   */
  fork(id, messageId) {
    return this.#json("POST", `/api/sessions/${id}/fork`, { body: { message_id: messageId } });
  }

  /**
   * @param {string} id
   * @param {string | null} cursor
   * @param {number} [limit]
   * @returns {Promise<Page<Message>>} the active path, the last first
   */
  messages(id, cursor, limit = 50) {
    return this.#json("GET", `/api/sessions/${id}/messages?${query({ order: "desc", limit: String(limit), cursor })}`);
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
    const response = await this.request("GET", `/api/sessions/${id}/export?${query({ format })}`);
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
   * Send a message; the answer comes as events.
   * @param {object} body
   * @param {string} idempotencyKey repeated with the same, it is sent once
   * @param {AbortSignal} signal
   */
  send(body, idempotencyKey, signal) {
    const headers = { Accept: "text/event-stream", "Idempotency-Key": idempotencyKey };
    return this.request("POST", "/api/chat", { body, headers, signal });
  }

  /**
   * The rest of an answer, as events.
   * @param {string} id
   * @param {string} generationId
   * @param {number} position what has come already
   * @param {AbortSignal} signal
   */
  resume(id, generationId, position, signal) {
    const headers = { Accept: "text/event-stream", "Last-Event-ID": String(position) };
    return this.request("GET", `/api/chat/${id}/stream?${query({ generation_id: generationId })}`, { headers, signal });
  }

  /**
   * @param {string} id
   * @param {string} generationId
   */
  async stop(id, generationId) {
    await this.request("POST", `/api/chat/${id}/stop`, { body: { generation_id: generationId } });
  }
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
  if (said === null || typeof said !== "object") return new Problem(`HTTP ${status}`, status, null, headers);
  if (said.error?.message) return new Problem(said.error.message, status, said.error.code ?? "error", headers);
  const fields = (said.errors ?? []).map(
    (/** @type {{field: string, message: string}} */ error) => `${error.field}: ${error.message}`,
  );
  const sentence = fields.length ? fields.join(" ") : (said.detail ?? `HTTP ${status}`);
  const code = said.code ?? (typeof said.detail === "string" ? "seed" : null);
  return new Problem(String(sentence), status, code, headers);
}
