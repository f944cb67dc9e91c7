// Reads an open session: its newest messages, earlier pages, changes of others, and an answer that runs already.
import { ApiError, NetworkError, isRequestError } from "../api/client.js";
import { Answer } from "./answer.js";
import { readSettings } from "./chat-settings.js";

/**
 * @typedef {import("./conversation.js").Conversation} Conversation
 * @typedef {import("./turn.js").Turn} Turn
 * @typedef {import("../types.d.ts").Message} Message
 */

const MAX_REVEAL_PAGES = 100; // that are loaded to find a message

export class Reader {
  /** Why the last read failed. @type {Error | null} */
  error = null;
  /** A running answer that the server refuses to stream; it is not requested again automatically. @type {string | null} */
  refusedGeneration = null;

  #conversation;
  /** @type {Promise<boolean> | null} */
  #loading = null;
  /** The number of reads, and which of them is shown. */
  #reads = 0;
  #shownRead = 0;

  /** @param {Conversation} conversation */
  constructor(conversation) {
    this.#conversation = conversation;
  }

  /** Read the newest messages; concurrent calls share one read. */
  async load() {
    this.#loading ??= this.read().finally(() => {
      this.#loading = null;
    });
    await this.#loading;
  }

  /**
   * As `load`, also while another read runs: the one that started later wins. Does nothing while a turn of this page
   * runs. Never throws: a failure is stored in `error`. Returns whether the messages are up to date.
   */
  async read() {
    const conversation = this.#conversation;
    const { turn, api, sessionSettings: settings } = conversation;
    if (conversation.id === null || (turn !== null && conversation.isAnswering && !conversation.isDetached)) return false;
    this.#reads += 1;
    const read = this.#reads;
    const isOutdated = () => read < this.#shownRead || conversation.turn !== turn;
    try {
      await conversation.created;
      const { saved } = settings;
      await saved;
      const [session, page] = await Promise.all([api.session(conversation.id), api.messages(conversation.id, null)]);
      if (isOutdated()) return conversation.turn === null;
      this.#shownRead = read;
      conversation.finishTurn(turn);
      if (conversation.isDetached) conversation.answer = null;
      conversation.session = session;
      conversation.list.replaceEnd(page.data.reverse(), page.next_cursor);
      if (settings.saved === saved) settings.values = readSettings(session.metadata);
      conversation.state = "ready";
      if (conversation.error === this.error) conversation.error = null;
      this.error = null;
    } catch (error) {
      if (isOutdated()) return false;
      conversation.setError(error);
      this.error = conversation.error;
      if (isGone(error)) conversation.clear();
      return false;
    } finally {
      conversation.changed();
    }
    const { last } = conversation.list;
    const isUnread = last?.status === "running" && !conversation.isAnswering;
    if (isUnread && last.generation_id !== this.refusedGeneration) this.#follow(last);
    return true;
  }

  /** @param {Message} running */
  #follow(running) {
    const conversation = this.#conversation;
    conversation.answer = Answer.follow(conversation.api, {
      session_id: /** @type {string} */ (conversation.id),
      generation_id: /** @type {string} */ (running.generation_id),
      message_id: running.id,
      model: running.model,
    });
    if (conversation.isHidden) conversation.answer.detach();
    conversation.changed();
    void conversation.sender.readAnswer(conversation.answer);
  }

  /** Read a detached or lost answer again. */
  async reattach() {
    this.refusedGeneration = null;
    await this.read();
    this.#conversation.sender.settleQueue();
  }

  /** Check whether a detached answer has ended. Returns whether it has. */
  async pollStatus() {
    const conversation = this.#conversation;
    if (conversation.id === null || !conversation.isDetached) return false;
    try {
      const page = await conversation.api.messages(conversation.id, null, 1);
      if (page.data[0]?.status === "running" || !conversation.isDetached) return false;
    } catch (error) {
      if (error instanceof NetworkError) return false; // poll again later
    }
    await this.reattach();
    return true;
  }

  /** Read the session again if another client has changed it. */
  async refresh() {
    const conversation = this.#conversation;
    if (conversation.id === null || conversation.isAnswering) return;
    const isRunning = conversation.list.last?.status === "running";
    if (conversation.session !== null && conversation.turn === null && this.error === null && !isRunning) {
      try {
        const session = await conversation.api.session(conversation.id);
        const { last_updated: updated, head } = conversation.session;
        if (session.last_updated === updated && session.head === head) return;
      } catch (error) {
        if (!isRequestError(error)) throw error;
        if (!isGone(error)) return; // check again later
      }
    }
    await this.read();
  }

  /** Load the page before the oldest message. */
  async loadOlder() {
    const conversation = this.#conversation;
    if (conversation.id === null) return;
    try {
      const loading = conversation.list.loadOlder(conversation.id);
      conversation.changed();
      await loading;
    } catch (error) {
      conversation.setError(error);
    }
    conversation.changed();
  }

  /**
   * Load a message, on whichever branch it is. Returns whether it exists.
   * @param {string} messageId
   */
  async find(messageId) {
    await this.load();
    if (await this.#loadUpTo(messageId)) return true;
    return (await this.#conversation.switchTo(messageId)) && this.#loadUpTo(messageId);
  }

  /**
   * Load pages until this message is in the list. Returns whether it is.
   * @param {string} messageId
   */
  async #loadUpTo(messageId) {
    const conversation = this.#conversation;
    const id = /** @type {string} */ (conversation.id);
    const isLoaded = () => conversation.list.get(messageId) !== undefined;
    await conversation.attempt(async () => {
      for (let page = 0; page < MAX_REVEAL_PAGES && conversation.hasOlder && !isLoaded(); page += 1)
        await conversation.list.loadOlder(id); // not rendered before the message is found
    });
    return isLoaded();
  }
}

/** @param {unknown} error */
function isGone(error) {
  return error instanceof ApiError && error.status === 404 && error.code !== null; // a proxy's 404 means nothing
}
