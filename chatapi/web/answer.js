// One answer as it comes, read to its end whatever happens to the connection.
import { Problem, Unreachable } from "./api.js";
import { events } from "./events.js";
import { Observable } from "./observable.js";

/**
 * @typedef {import("./api.js").Api} Api
 * @typedef {import("./types.d.ts").Part} Part
 * @typedef {import("./types.d.ts").Status} Status
 * @typedef {import("./types.d.ts").Usage} Usage
 */

const FIRST_PAUSE_SECONDS = 0.5; // before the second attempt; doubled each time
const LONGEST_PAUSE_SECONDS = 8;
const STOPPING_SECONDS = 5; // while the connection is broken: longer nobody waits for a server to say that it has stopped
const SENDING_SECONDS = 60; // a message that reaches no server for so long goes back to its writer

/**
 * How an answer is reached now:
 * - `sending`: the server has not said that it has the message;
 * - `streaming`: it comes;
 * - `reconnecting`: the connection broke, and we try again by ourselves;
 * - `away`: nobody looks at it, and it goes on at the server;
 * - `lost`: we were told to give up trying; the server may go on;
 * - `ended`: all has come that ever will: `status` says how it ended;
 * - `refused`: the server did not take the message: `problem` says why.
 * @typedef {"sending" | "streaming" | "reconnecting" | "away" | "lost" | "ended" | "refused"} State
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
  /** Why it failed. @type {{code: string, detail: string} | null} */
  error = null;
  /** Why it was refused. @type {Error | null} */
  problem = null;
  /** Whether somebody wants it stopped. */
  stopping = false;

  #api;
  #position = 0;
  #aborting = new AbortController();
  /** @type {(() => void) | null} ends a pause */
  #hurry = null;
  /** @type {object | null} */
  #body;
  #idempotencyKey = randomKey();

  /**
   * @param {Api} api
   * @param {object | null} body of the message to send, or null to follow an answer that was begun
   */
  constructor(api, body) {
    super();
    this.#api = api;
    this.#body = body;
  }

  /**
   * An answer that somebody else asked for, or we in another life.
   * @param {Api} api
   * @param {{session_id: string, generation_id: string, message_id: string, model: string | null}} known
   */
  static begun(api, known) {
    const answer = new Answer(api, null);
    answer.sessionId = known.session_id;
    answer.generationId = known.generation_id;
    answer.messageId = known.message_id;
    answer.model = known.model;
    answer.state = "streaming";
    return answer;
  }

  /** Whether nothing more will come of it. */
  get over() {
    return this.state === "ended" || this.state === "refused" || this.state === "lost";
  }

  get #left() {
    return this.over || this.state === "away";
  }

  /** Read it to its end; returns when it is over, or nobody looks. */
  async read() {
    const begun = performance.now();
    /** @type {Error} */
    let trouble = new Unreachable();
    for (let attempt = 0; !this.#left; attempt += 1) {
      try {
        const response = await this.#ask();
        for await (const event of events(response)) {
          attempt = 0;
          this.#take(event);
        }
        if (this.#left) return;
      } catch (error) {
        if (this.#left) return;
        if (!(error instanceof Problem || error instanceof Unreachable)) throw error;
        if (error instanceof Problem && !this.#passes(error)) return this.#refuse(error);
        trouble = error;
      }
      const tooLong = this.generationId === null && performance.now() - begun > SENDING_SECONDS * 1000;
      if (tooLong) return this.#refuse(trouble);
      this.#become("reconnecting");
      await this.#pause(Math.min(FIRST_PAUSE_SECONDS * 2 ** attempt, LONGEST_PAUSE_SECONDS));
    }
  }

  /** Try to reach the server now rather than in some seconds. */
  retryNow() {
    this.#hurry?.();
  }

  /**
   * Ask the server to stop it; what there is of it is kept. Before the server has said that it has the message, that
   * waits until it does: to leave now would let it go on. Where the server cannot be reached, nobody waits for it.
   */
  async stop() {
    const isCut = this.state === "reconnecting";
    if (this.sessionId === null || this.generationId === null) {
      if (isCut) return this.#leave("lost");
      this.#become(this.state, true);
      return;
    }
    this.#become(this.state, true);
    try {
      await this.#api.stop(this.sessionId, this.generationId, isCut ? AbortSignal.timeout(STOPPING_SECONDS * 1000) : undefined);
      this.retryNow(); // for its end
    } catch (error) {
      if (this.#left) return;
      this.#become(this.state, false); // it goes on, and can be stopped again
      if (!isCut) throw error;
      this.#leave("lost");
    }
  }

  /** Read no more of it, once the server has it: it goes on there, and takes no connection here. */
  goAway() {
    if (!this.#left && this.generationId !== null) this.#leave("away");
  }

  /** @param {"away" | "lost"} state */
  #leave(state) {
    this.#become(state);
    this.#aborting.abort();
    this.#hurry?.();
  }

  #ask() {
    const signal = this.#aborting.signal;
    if (this.sessionId !== null && this.generationId !== null)
      return this.#api.resume(this.sessionId, this.generationId, this.#position, signal);
    return this.#api.send(/** @type {object} */ (this.#body), this.#idempotencyKey, signal);
  }

  /**
   * Whether trying again by ourselves may help: the server is on its way down or up, or somebody between us spoke.
   * @param {Problem} problem
   */
  #passes(problem) {
    if (problem.code === "draining" || (problem.code === null && problem.status >= 502)) return true;
    return this.generationId !== null && (problem.status >= 500 || problem.status === 429);
  }

  /** @param {Error} problem */
  #refuse(problem) {
    this.problem = problem;
    this.#become("refused");
  }

  /** @param {import("./events.js").Event} event */
  #take({ name, data, position }) {
    this.#position = position;
    switch (name) {
      case "session":
        this.sessionId = data.session_id;
        this.generationId = data.generation_id;
        this.messageId = data.message_id;
        this.model = data.model;
        this.#body = null; // it may be large
        this.#become("streaming");
        if (this.stopping) this.stop().catch(() => {});
        return;
      case "usage":
        this.usage = data;
        break;
      case "done":
        this.status = data.status;
        this.finishReason = data.finish_reason;
        return this.#become("ended");
      case "error":
        this.status = data.status;
        this.error = { code: data.code, detail: data.detail };
        return this.#become("ended");
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
    const same = last !== undefined && last.type === type && last.call_id === data.call_id;
    if (type === "tool_call") {
      if (same) last.arguments += data.arguments;
      else this.parts.push({ type, call_id: data.call_id, name: data.name, arguments: data.arguments });
    } else if (same) last.text += data.text;
    else this.parts.push({ type, text: data.text });
  }

  /**
   * @param {State} state
   * @param {boolean} [stopping]
   */
  #become(state, stopping = this.stopping) {
    this.state = state;
    this.stopping = stopping;
    this.changed();
  }

  /**
   * Wait, but no longer than until the network is back or a person has had enough.
   * @param {number} seconds
   */
  async #pause(seconds) {
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, seconds * (0.75 + Math.random() / 2) * 1000);
      this.#hurry = () => {
        clearTimeout(timer);
        resolve(undefined);
      };
      addEventListener("online", this.#hurry, { once: true });
    });
    if (this.#hurry !== null) removeEventListener("online", this.#hurry);
    this.#hurry = null;
  }
}

/** 128 random bits; `crypto.randomUUID` is only there on https. */
function randomKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
