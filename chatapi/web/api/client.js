// A client of the public HTTP API (docs/http.md). It uses no route that is reserved for the page.

/**
 * @typedef {import("../types.d.ts").Config} Config
 * @typedef {import("../types.d.ts").Hit} Hit
 * @typedef {import("../types.d.ts").Message} Message
 * @typedef {import("../types.d.ts").Prices} Prices
 * @typedef {import("../types.d.ts").Session} Session
 * @typedef {import("../types.d.ts").Share} Share
 * @typedef {import("../types.d.ts").SharedSession} SharedSession
 * @typedef {import("../types.d.ts").UsageReport} UsageReport
 */
/**
 * @template T
 * @typedef {import("../types.d.ts").Page<T>} Page
 */

/** An error response. */
export class ApiError extends Error {
  /**
   * @param {string} message
   * @param {number} status
   * @param {string | null} code the API's error code; null if another server, such as a proxy, sent the response
   * @param {Headers} headers
   */
  constructor(message, status, code, headers) {
    super(message);
    this.status = status;
    this.code = code;
    const seconds = Number(headers.get("Retry-After") ?? NaN);
    /** Seconds to wait before the next attempt, or null if the server named none. */
    this.retryAfter = Number.isFinite(seconds) ? seconds : null;
    this.sessionId = headers.get("X-Session-ID");
    this.generationId = headers.get("X-Generation-ID");
  }
}

/** No complete response arrived: the network or the server is down, or the connection broke. */
export class NetworkError extends Error {}

/**
 * Whether a request failed; other errors are faults of the page.
 * @param {unknown} error
 * @returns {error is ApiError | NetworkError}
 */
export function isRequestError(error) {
  return error instanceof ApiError || error instanceof NetworkError;
}

const EVENT_STREAM = "text/event-stream";
const RESPONSE_TIMEOUT_SECONDS = 60; // until the response head; the server ends its own silences much earlier
const DELETION_SECONDS = 600; // of any number of sessions: the server deletes them in small steps
const KEEPALIVE_MAX_BYTES = 60_000; // browsers allow 64 KiB for all requests that outlive a page
const SLOWEST_UPLOAD_BYTES_PER_SECOND = 20_000; // extends the timeout of large bodies

/**
 * @typedef {object} RequestOptions
 * @property {unknown} [body] sent as JSON
 * @property {Record<string, string>} [headers]
 * @property {AbortSignal} [signal]
 * @property {number} [seconds] until the response must begin, beside the time of an upload
 * @property {boolean} [keepalive] lets the request outlive the page, if the body is small enough
 */

export class Api {
  /** Sent with every request. @type {string | null} */
  key = null;

  /**
   * @param {string} method
   * @param {string} path
   * @param {RequestOptions} [options]
   * @returns {Promise<Response>} with a status of 2xx
   * @throws {ApiError | NetworkError}
   */
  async request(method, path, options = {}) {
    const { body, headers: extra = {}, signal, keepalive = false, seconds: limit = RESPONSE_TIMEOUT_SECONDS } = options;
    const headers = new Headers(extra);
    if (this.key !== null) headers.set("Authorization", `Bearer ${this.key}`);
    if (body !== undefined) headers.set("Content-Type", "application/json");
    const text = body === undefined ? undefined : JSON.stringify(body);
    const timeout = new AbortController();
    const seconds = limit + (text ?? "").length / SLOWEST_UPLOAD_BYTES_PER_SECOND;
    const timer = setTimeout(() => timeout.abort(), seconds * 1000);
    /** @type {RequestInit} */
    const init = {
      method,
      headers,
      body: text,
      signal: signal === undefined ? timeout.signal : AbortSignal.any([signal, timeout.signal]),
      keepalive: keepalive && new Blob([text ?? ""]).size < KEEPALIVE_MAX_BYTES,
      cache: "no-store",
    };
    let response;
    try {
      response = await fetch(path, init);
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new NetworkError();
    } finally {
      clearTimeout(timer);
    }
    if (!response.ok) throw await errorFrom(response);
    return response;
  }

  /**
   * @template T
   * @param {string} method
   * @param {string} path
   * @param {RequestOptions} [options]
   * @returns {Promise<T>}
   */
  async #json(method, path, options) {
    const response = await this.request(method, path, options);
    try {
      return await response.json();
    } catch {
      throw new NetworkError(); // the body was cut off
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

  /** @returns {Promise<string[]>} the ids of the models that the key may use, sorted */
  async models() {
    /** @type {{data: {id: string}[]}} */
    const list = await this.#json("GET", "/v1/models");
    return list.data.map((model) => model.id).sort();
  }

  /**
   * @param {string | null} cursor
   * @returns {Promise<Page<Session>>} most recently used first
   */
  sessions(cursor) {
    return this.#json("GET", `/api/sessions?${query({ sort: "updated", limit: "50", cursor })}`);
  }

  /**
   * @param {string} id
   * @returns {Promise<Session>}
   */
  session(id) {
    return this.#json("GET", sessionPath(id));
  }

  /**
   * @param {string} id
   * @param {{title?: string, developer_message?: string, metadata?: Record<string, string>, head?: string, temporary?: boolean}} change
   * @returns {Promise<Session>}
   */
  changeSession(id, change) {
    return this.#json("PATCH", sessionPath(id), { body: change, keepalive: true });
  }

  /**
   * @param {string} id
   * @param {boolean} keepalive whether the request outlives the page
   */
  async deleteSession(id, keepalive) {
    await this.request("DELETE", sessionPath(id), { keepalive });
  }

  /** Delete all sessions of the key. A request that was cut off has deleted a part of them. */
  async deleteSessions() {
    await this.request("DELETE", "/api/sessions", { seconds: DELETION_SECONDS });
  }

  /**
   * Delete one message. The messages after it follow the one before.
   * @param {string} id
   * @param {string} messageId
   */
  async deleteMessage(id, messageId) {
    const conversation = id.replace(/^ses_/, "conv_"); // the same session in OpenAI's API
    await this.request("DELETE", `/v1/conversations/${conversation}/items/${messageId}`);
  }

  /**
   * Store a text as another version of a message, without asking the model. The active path ends there.
   * @param {string} id
   * @param {string} messageId
   * @param {string} content
   * @param {string} idempotencyKey
   * @returns {Promise<Message>}
   */
  editMessage(id, messageId, content, idempotencyKey) {
    const headers = { "Idempotency-Key": idempotencyKey };
    return this.#json("POST", `${sessionPath(id)}/messages`, { body: { replace: messageId, content }, headers });
  }

  /**
   * @param {string} id
   * @param {string} messageId
   * @returns {Promise<Session>} a new session with a copy of the path that ends at this message
   */
  fork(id, messageId) {
    return this.#json("POST", `${sessionPath(id)}/fork`, { body: { message_id: messageId } });
  }

  /**
   * @param {string} id
   * @returns {Promise<{data: Share[]}>} the links to a session
   */
  shares(id) {
    return this.#json("GET", `${sessionPath(id)}/shares`);
  }

  /**
   * @param {string} id
   * @param {number} days until it expires
   * @returns {Promise<Share & {token: string}>}
   */
  createShare(id, days) {
    return this.#json("POST", `${sessionPath(id)}/shares`, { body: { days } });
  }

  /**
   * @param {string} id
   * @param {string} shareId
   */
  async deleteShare(id, shareId) {
    await this.request("DELETE", `${sessionPath(id)}/shares/${encodeURIComponent(shareId)}`);
  }

  /**
   * @param {string} token of a link
   * @returns {Promise<SharedSession>} what it shows
   */
  sharedSession(token) {
    return this.#json("GET", `/api/shares/${encodeURIComponent(token)}`);
  }

  /**
   * @param {string} id
   * @param {string | null} cursor
   * @param {number} [limit]
   * @returns {Promise<Page<Message>>} messages of the active path, newest first
   */
  messages(id, cursor, limit = 50) {
    return this.#json("GET", `${sessionPath(id)}/messages?${query({ order: "desc", limit: String(limit), cursor })}`);
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
    const response = await this.request("GET", `${sessionPath(id)}/export?${query({ format })}`);
    const disposition = response.headers.get("Content-Disposition") ?? "";
    const name = /filename="([^"]+)"/.exec(disposition)?.[1] ?? (format === "json" ? "chat.json" : "chat.md");
    try {
      return { name, content: await response.blob() };
    } catch {
      throw new NetworkError();
    }
  }

  /**
   * @param {unknown} document made by an export in JSON
   * @returns {Promise<Session>}
   */
  import(document) {
    return this.#json("POST", "/api/sessions/import", { body: document });
  }

  /**
   * @param {string} from the first day, YYYY-MM-DD
   * @param {string} to the last day, included
   * @param {string} by
   * @returns {Promise<UsageReport>}
   */
  usage(from, to, by) {
    return this.#json("GET", `/api/usage?${query({ from, to, by })}`);
  }

  /**
   * Send a message.
   * @param {object} body
   * @param {string} idempotencyKey a repeated send with the same key reaches the model once
   * @param {AbortSignal} signal
   * @returns {Promise<Response>} the answer as an event stream
   * @throws {ApiError | NetworkError} `ApiError` also if the response is not an event stream
   */
  send(body, idempotencyKey, signal) {
    const headers = { Accept: EVENT_STREAM, "Idempotency-Key": idempotencyKey };
    return this.#eventStream("POST", "/api/chat", { body, headers, signal });
  }

  /**
   * Read an answer from a position on.
   * @param {string} id
   * @param {string} generationId
   * @param {number} position of the last event that arrived
   * @param {AbortSignal} signal
   * @returns {Promise<Response>} as `send` does
   */
  resume(id, generationId, position, signal) {
    const headers = { Accept: EVENT_STREAM, "Last-Event-ID": String(position) };
    const path = `/api/chat/${id}/stream?${query({ generation_id: generationId })}`;
    return this.#eventStream("GET", path, { headers, signal });
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {RequestOptions} options
   */
  async #eventStream(method, path, options) {
    const response = await this.request(method, path, options);
    const { status, headers } = response;
    if (headers.get("Content-Type")?.startsWith(EVENT_STREAM)) return response;
    await response.body?.cancel();
    throw new ApiError(`HTTP ${status}`, status, null, headers); // for example the sign-in page of a network
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

/** Kill the server of the demo, which starts again. @param {Api} api */
export async function pullThePlug(api) {
  try {
    await api.request("POST", "/demo/plug", { body: {} });
  } catch (error) {
    if (!(error instanceof NetworkError)) throw error; // the response may be cut off too
  }
}

/** @param {string} id of a session; may come from the address bar, so it is encoded */
function sessionPath(id) {
  return `/api/sessions/${encodeURIComponent(id)}`;
}

/** @param {Record<string, string | null>} values null values are omitted */
function query(values) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) if (value !== null) parameters.set(name, value);
  return parameters.toString();
}

/**
 * Read an error body: this API's form, OpenAI's form, or an unknown one.
 * @param {Response} response
 * @returns {Promise<ApiError>}
 */
async function errorFrom(response) {
  let body = null;
  try {
    body = await response.json();
  } catch {
    // Not JSON: a proxy's page, or a body that was cut off.
  }
  const { status, headers } = response;
  const { detail, code, errors, error } = body !== null && typeof body === "object" ? body : {};
  if (typeof error?.message === "string") return new ApiError(error.message, status, "error", headers);
  if (typeof detail !== "string") return new ApiError(`HTTP ${status}`, status, null, headers);
  const fields = Array.isArray(errors) ? errors.map(({ field, message }) => `${field}: ${message}`) : [];
  const message = fields.length ? fields.join(" ") : detail;
  return new ApiError(message, status, typeof code === "string" ? code : "seed", headers);
}
