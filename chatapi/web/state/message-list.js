// The loaded part of a session's active path, and how it is shown.

/**
 * @typedef {import("../api/client.js").Api} Api
 * @typedef {import("./answer.js").Answer} Answer
 * @typedef {import("./turn.js").ShownMessage} ShownMessage
 * @typedef {import("./turn.js").Turn} Turn
 * @typedef {import("../types.d.ts").Message} Message
 */

export class MessageList {
  /** The path from the oldest loaded message to its end. @type {Message[]} */
  messages = [];
  /** Cursor of the page before them, if there is one. @type {string | null} */
  olderCursor = null;

  #api;
  /** The keys of messages that were sent here, by the id of the answer. @type {Map<string, Turn>} */
  #turns = new Map();
  /** Times that refusals named, in seconds, by the id of the generation. @type {Map<string, number>} */
  #retryAfter = new Map();
  /** Seconds of reasoning that this page has measured, by the id of the answer. @type {Map<string, number>} */
  #thoughts = new Map();
  /** @type {Promise<void> | null} */
  #loadingOlder = null;

  /** @param {Api} api */
  constructor(api) {
    this.#api = api;
  }

  get isLoadingOlder() {
    return this.#loadingOlder !== null;
  }

  /** @param {string | null} messageId */
  get(messageId) {
    return this.messages.find((message) => message.id === messageId);
  }

  get last() {
    return this.messages.at(-1);
  }

  clear() {
    this.messages = [];
    this.olderCursor = null;
  }

  /**
   * Replace the end of the path. Older messages stay if the page continues them.
   * @param {Message[]} messages the last page, oldest first
   * @param {string | null} olderCursor
   */
  replaceEnd(messages, olderCursor) {
    const joint = messages.length ? this.messages.findIndex((known) => known.id === messages[0].parent_id) : -1;
    if (joint >= 0) this.messages = [...this.messages.slice(0, joint + 1), ...messages];
    else [this.messages, this.olderCursor] = [messages, olderCursor];
  }

  /**
   * Load the page before the oldest message. Concurrent calls share one request.
   * @param {string} sessionId
   * @throws {import("../api/client.js").ApiError | import("../api/client.js").NetworkError}
   */
  async loadOlder(sessionId) {
    this.#loadingOlder ??= this.#loadOlder(sessionId).finally(() => {
      this.#loadingOlder = null;
    });
    await this.#loadingOlder;
  }

  /** @param {string} sessionId */
  async #loadOlder(sessionId) {
    const [first] = this.messages;
    if (this.olderCursor === null || first === undefined) return;
    const page = await this.#api.messages(sessionId, this.olderCursor);
    if (first !== this.messages[0]) return; // another path was opened meanwhile
    this.messages = [...page.data.reverse(), ...this.messages];
    this.olderCursor = page.next_cursor;
  }

  /**
   * Keep showing the messages of this turn under the same keys, now that the server lists them.
   * @param {string} answerId
   * @param {Turn} turn
   */
  keepKeys(answerId, turn) {
    this.#turns.set(answerId, turn);
  }

  /**
   * Keep the duration of reasoning. The server does not store it.
   * @param {string} answerId
   * @param {number} seconds
   */
  keepThought(answerId, seconds) {
    this.#thoughts.set(answerId, seconds);
  }

  /**
   * Keep the time after which a refused answer can be requested again. The server does not store it.
   * @param {string} generationId
   * @param {number} seconds
   */
  keepRetryAfter(generationId, seconds) {
    this.#retryAfter.set(generationId, seconds);
  }

  /**
   * The path as it is shown.
   * @param {Turn | null} turn that the server does not list yet
   * @param {Answer | null} answer
   * @returns {ShownMessage[]}
   */
  shown(turn, answer) {
    const shown = this.messages.map((message, index) => this.#shownMessage(message, this.messages[index + 1], answer));
    turn?.appendTo(shown, answer);
    return shown;
  }

  /**
   * @param {Message} message
   * @param {Message | undefined} next
   * @param {Answer | null} answer
   * @returns {ShownMessage}
   */
  #shownMessage(message, next, answer) {
    const own = this.#turns.get(message.id);
    const following = next === undefined ? undefined : this.#turns.get(next.id);
    const key = own ? own.answerKey : following?.asks ? following.questionKey : message.id;
    const live = answer !== null && answer.generationId === message.generation_id ? answer : undefined;
    const retryAfter = this.#retryAfter.get(message.generation_id ?? "") ?? null;
    const thoughtSeconds = this.#thoughts.get(message.id) ?? null;
    return { ...message, key, retryAfter, thoughtSeconds, answer: message.status === "running" ? live : undefined };
  }
}
