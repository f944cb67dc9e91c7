// One answer while it streams: sent once, and read to its end across broken connections.
import { ApiError, NetworkError, isRequestError } from "../api/client.js";
import { readEvents } from "../api/sse.js";
import { Observable } from "./observable.js";
import { randomKey } from "./random-key.js";

/**
 * @typedef {import("../api/client.js").Api} Api
 * @typedef {import("../types.d.ts").Part} Part
 * @typedef {import("../types.d.ts").Status} Status
 * @typedef {import("../types.d.ts").Usage} Usage
 */

const FIRST_RETRY_SECONDS = 0.5; // before the second attempt; doubled each time
const MAX_RETRY_SECONDS = 8;
const STOP_TIMEOUT_SECONDS = 5; // for a stop while the connection is broken
const SEND_TIMEOUT_SECONDS = 60; // a message that reaches no server in this time returns to the composer

/**
 * The state of the connection:
 * - `sending`: the server has not confirmed the message;
 * - `streaming`: events arrive;
 * - `reconnecting`: the connection broke, and the next attempt is scheduled;
 * - `detached`: it is not read, because the page is hidden or shows another session; the server continues;
 * - `lost`: reconnecting was given up; the server may continue;
 * - `ended`: the last event arrived, and `status` holds the outcome;
 * - `refused`: the server rejected the request, and `refusal` holds the reason.
 * @typedef {"sending" | "streaming" | "reconnecting" | "detached" | "lost" | "ended" | "refused"} State
 */

export class Answer extends Observable {
  /** @type {State} */
  state = "sending";
  /** @type {Status} */
  status = "running";
  /** @type {string | null} */
  sessionId = null;
  /** @type {string | null} */
  generationId = null;
  /** @type {string | null} */
  messageId = null;
  /** @type {string | null} */
  model = null;
  /** @type {Part[]} */
  parts = [];
  /** @type {Usage | null} */
  usage = null;
  /** @type {string | null} */
  finishReason = null;
  /** Why the generation failed. @type {{code: string, detail: string} | null} */
  error = null;
  /** Why the request was refused. @type {Error | null} */
  refusal = null;
  /** How long the model has reasoned, in seconds, if this page has seen it from the start. @type {number | null} */
  thoughtSeconds = null;
  /** Whether a stop was requested. */
  stopping = false;

  #api;
  #position = 0;
  #abortController = new AbortController();
  /** Ends the current wait between two attempts. @type {(() => void) | null} */
  #skipWait = null;
  /** @type {object | null} */
  #body;
  #idempotencyKey = randomKey();
  /** Whether this page has sent the message, and so sees the answer from its start. */
  #isSent;
  #thoughtSince = 0;

  /**
   * @param {Api} api
   * @param {object | null} body of the message to send; null to follow a running answer
   */
  constructor(api, body) {
    super();
    this.#api = api;
    this.#body = body;
    this.#isSent = body !== null;
  }

  /**
   * Follow an answer that runs already, started by another client or before a reload.
   * @param {Api} api
   * @param {{session_id: string, generation_id: string, message_id: string, model: string | null}} running
   */
  static follow(api, running) {
    const answer = new Answer(api, null);
    answer.sessionId = running.session_id;
    answer.generationId = running.generation_id;
    answer.messageId = running.message_id;
    answer.model = running.model;
    answer.state = "streaming";
    return answer;
  }

  /** Whether this object will not change any more. */
  get isOver() {
    return this.state === "ended" || this.state === "refused" || this.state === "lost";
  }

  get #isNotRead() {
    return this.isOver || this.state === "detached";
  }

  /** Read the answer. Returns when it is over or detached. */
  async read() {
    const started = performance.now();
    /** @type {Error} */
    let lastError = new NetworkError();
    for (let attempt = 0; !this.#isNotRead; attempt += 1) {
      try {
        const response = await this.#request();
        for await (const event of readEvents(response)) {
          attempt = 0;
          this.#apply(event);
        }
        if (this.#isNotRead) return;
      } catch (error) {
        if (this.#isNotRead) return;
        if (!isRequestError(error)) throw error;
        if (error instanceof ApiError && !this.#isTemporary(error)) return this.#refuse(error);
        lastError = error;
      }
      const timedOut = this.generationId === null && performance.now() - started > SEND_TIMEOUT_SECONDS * 1000;
      if (timedOut) return this.#refuse(lastError);
      this.#setState("reconnecting");
      await this.#wait(Math.min(FIRST_RETRY_SECONDS * 2 ** attempt, MAX_RETRY_SECONDS));
    }
  }

  /** Start the next attempt now. */
  retryNow() {
    this.#skipWait?.();
  }

  /**
   * Request a stop; the text so far is kept. Before the server has confirmed the message, the stop waits for the
   * confirmation, because closing the connection would leave the answer running. If the server cannot be reached, the
   * answer becomes `lost`.
   */
  async stop() {
    const isCut = this.state === "reconnecting";
    if (this.sessionId === null || this.generationId === null) {
      if (isCut) return this.#abandon("lost");
      this.#setState(this.state, true);
      return;
    }
    this.#setState(this.state, true);
    const signal = isCut ? AbortSignal.timeout(STOP_TIMEOUT_SECONDS * 1000) : undefined;
    try {
      await this.#api.stop(this.sessionId, this.generationId, signal);
      this.retryNow(); // to read the end
    } catch (error) {
      if (this.#isNotRead) return;
      this.#setState(this.state, false); // still running; the user can stop it again
      if (!isCut) throw error;
      this.#abandon("lost");
    }
  }

  /** Close the connection, once the server has confirmed the message. The answer continues at the server. */
  detach() {
    if (!this.#isNotRead && this.generationId !== null) this.#abandon("detached");
  }

  /** @param {"detached" | "lost"} state */
  #abandon(state) {
    this.#setState(state);
    this.#abortController.abort();
    this.#skipWait?.();
  }

  #request() {
    const { signal } = this.#abortController;
    if (this.sessionId !== null && this.generationId !== null)
      return this.#api.resume(this.sessionId, this.generationId, this.#position, signal);
    return this.#api.send(/** @type {object} */ (this.#body), this.#idempotencyKey, signal);
  }

  /**
   * Whether an automatic retry may succeed: the server is starting or stopping, or a proxy sent the response.
   * @param {ApiError} error
   */
  #isTemporary(error) {
    if (error.code === "draining" || (error.code === null && error.status >= 502)) return true;
    return this.generationId !== null && (error.status >= 500 || error.status === 429);
  }

  /** @param {Error} refusal */
  #refuse(refusal) {
    this.refusal = refusal;
    this.#setState("refused");
  }

  /** @param {import("../api/sse.js").Event} event */
  #apply({ name, data, position }) {
    this.#position = position;
    switch (name) {
      case "session":
        this.sessionId = data.session_id;
        this.generationId = data.generation_id;
        this.messageId = data.message_id;
        this.model = data.model;
        this.#body = null; // it may be large
        this.#setState("streaming");
        if (this.stopping) this.stop().catch(() => {});
        return;
      case "usage":
        this.usage = data;
        break;
      case "done":
        this.status = data.status;
        this.finishReason = data.finish_reason;
        return this.#setState("ended");
      case "error":
        this.status = data.status;
        this.error = { code: data.code, detail: data.detail };
        return this.#setState("ended");
      default:
        this.#append(name, data);
    }
    this.changed();
  }

  /**
   * @param {string} type
   * @param {any} data
   */
  #append(type, data) {
    const last = this.parts.at(-1);
    this.#measureThought(type, last?.type);
    const continues = last !== undefined && last.type === type && last.call_id === data.call_id;
    if (type === "tool_call") {
      if (continues) last.arguments += data.arguments;
      else this.parts.push({ type, call_id: data.call_id, name: data.name, arguments: data.arguments });
    } else if (continues) last.text += data.text;
    else this.parts.push({ type, text: data.text });
  }

  /**
   * Reasoning lasts from its first part to the first part of another kind.
   * @param {string} type of the part that arrives
   * @param {string | undefined} lastType of the one before
   */
  #measureThought(type, lastType) {
    const isThought = type === "reasoning";
    if (isThought && lastType === undefined && this.#isSent) this.#thoughtSince = performance.now();
    if (!isThought && lastType === "reasoning" && this.#thoughtSince > 0 && this.thoughtSeconds === null)
      this.thoughtSeconds = (performance.now() - this.#thoughtSince) / 1000;
  }

  /**
   * @param {State} state
   * @param {boolean} [stopping]
   */
  #setState(state, stopping = this.stopping) {
    this.state = state;
    this.stopping = stopping;
    this.changed();
  }

  /**
   * Wait; `retryNow` and a network that comes back end the wait early.
   * @param {number} seconds varied by 25 %, so that clients do not return all at once
   */
  async #wait(seconds) {
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, seconds * (0.75 + Math.random() / 2) * 1000);
      this.#skipWait = () => {
        clearTimeout(timer);
        resolve(undefined);
      };
      addEventListener("online", this.#skipWait, { once: true });
    });
    if (this.#skipWait !== null) removeEventListener("online", this.#skipWait);
    this.#skipWait = null;
  }
}
