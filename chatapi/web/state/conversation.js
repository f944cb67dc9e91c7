// One open session: its messages along the active path, and the turn that is running.
import { ApiError, NetworkError, isRequestError } from "../api/client.js";
import { Answer } from "./answer.js";
import { SessionSettings, readSettings } from "./chat-settings.js";
import { MessageList } from "./message-list.js";
import { modelChoice } from "./model-choice.js";
import { Observable } from "./observable.js";
import { drafts } from "./storage.js";
import { DEVELOPER_DRAFT, SENT_DRAFT, Turn, attachmentsOf } from "./turn.js";

/**
 * @typedef {import("../api/client.js").Api} Api
 * @typedef {import("../types.d.ts").Attachment} Attachment
 * @typedef {import("../types.d.ts").ChatSettings} ChatSettings
 * @typedef {import("../types.d.ts").Message} Message
 * @typedef {import("../types.d.ts").Session} Session
 * @typedef {import("./turn.js").OutgoingMessage} OutgoingMessage
 */

/**
 * A message to scroll to. `control` selects an element in it that gets the focus; null focuses the message.
 * @typedef {{messageId: string, control: string | null}} ScrollTarget
 */

const MAX_REVEAL_PAGES = 100; // that are loaded to find a message

/**
 * A position to return to: a message, and the distance of its top from the top of the view in pixels.
 * @typedef {{messageId: string, offset: number}} ReadingPosition
 */

export class Conversation extends Observable {
  /** @type {string | null} */
  id;
  /** @type {Session | null} */
  session = null;
  /** The answer that streams, or the last one that did. @type {Answer | null} */
  answer = null;
  /** Why the last action failed. @type {Error | null} */
  error = null;
  /** A message that could not be sent, for the composer to take back. An edit stays in its own draft. @type {OutgoingMessage | null} */
  returnedDraft = null;
  /** The start of a message, for the composer to take. @type {string | null} */
  suggestion = null;
  /** Attachments of the next message. @type {Attachment[]} */
  attachments = [];
  /** @type {ScrollTarget | null} */
  scrollTarget = null;
  /** Where the reader was when another view was opened; null at the end. @type {ReadingPosition | null} */
  readingPosition = null;
  /** @type {"loading" | "ready" | "gone"} */
  state;
  /** Of a session that is not created yet; kept as a draft. */
  developerMessage;

  #api;
  #onChange;
  #list;
  #settings;
  #hidden = false;
  /** The turn that was started here and is not in the list yet. @type {Turn | null} */
  #turn = null;
  /** Whether a message waits until the previous turn is in the list. */
  #preparing = false;
  /** @type {Promise<boolean> | null} */
  #loading = null;
  /** The number of reads, and which of them is shown. */
  #reads = 0;
  #shownRead = 0;
  /** Why the last read failed. @type {Error | null} */
  #readError = null;
  /** A running answer that the server refuses to stream; it is not requested again automatically. @type {string | null} */
  #refusedGeneration = null;

  /**
   * @param {Api} api
   * @param {string | null} id null for a session that its first message creates
   * @param {(conversation: Conversation, ours: boolean) => void} onChange called after the session changed at the
   *   server; `ours` if this page changed it
   */
  constructor(api, id, onChange) {
    super();
    this.#api = api;
    this.#onChange = onChange;
    this.#list = new MessageList(api);
    this.#settings = new SessionSettings((edit) => this.#editMetadata(edit));
    this.id = id;
    this.state = id === null ? "ready" : "loading";
    this.developerMessage = id === null ? drafts.get(DEVELOPER_DRAFT) : "";
  }

  /** The stored messages, from the oldest that is loaded. */
  get messages() {
    return this.#list.messages;
  }

  get hasOlder() {
    return this.#list.olderCursor !== null;
  }

  get isLoadingOlder() {
    return this.#list.isLoadingOlder;
  }

  get settings() {
    return this.#settings.values;
  }

  get isAnswering() {
    return this.answer !== null && !this.answer.isOver;
  }

  /** Whether an answer runs at the server and is not read here. */
  get isDetached() {
    return this.answer?.state === "detached";
  }

  /** Whether the messages may be out of date, because the last read failed. */
  get isStale() {
    return this.#readError !== null;
  }

  /** The text that is being sent and may return to the composer. */
  get pendingText() {
    const isPending = this.#turn !== null && this.isAnswering && this.answer?.generationId === null;
    return isPending ? this.#turn?.message.text : null;
  }

  /** The path as it is shown, including the running turn. */
  get shown() {
    return this.#list.shown(this.#turn, this.answer);
  }

  // Reading

  /** Read the newest messages, and follow a running answer. Never throws: a failure is stored in `error`. */
  async load() {
    this.#loading ??= this.#read().finally(() => {
      this.#loading = null;
    });
    await this.#loading;
  }

  /**
   * As `load`, also while another read runs: the one that started later wins. Does nothing while a turn of this page
   * runs. Returns whether the messages are up to date.
   */
  async #read() {
    const turn = this.#turn;
    if (this.id === null || (turn !== null && this.isAnswering && !this.isDetached)) return false;
    this.#reads += 1;
    const read = this.#reads;
    const isOutdated = () => read < this.#shownRead || this.#turn !== turn;
    const { saved } = this.#settings;
    try {
      await saved;
      const [session, page] = await Promise.all([this.#api.session(this.id), this.#api.messages(this.id, null)]);
      if (isOutdated()) return this.#turn === null;
      this.#shownRead = read;
      this.#finishTurn(turn);
      if (this.isDetached) this.answer = null;
      this.session = session;
      this.#list.replaceEnd(page.data.reverse(), page.next_cursor);
      if (this.#settings.saved === saved) this.#settings.values = readSettings(session.metadata);
      this.state = "ready";
      if (this.error === this.#readError) this.error = null;
      this.#readError = null;
    } catch (error) {
      if (isOutdated()) return false;
      this.#setError(error);
      this.#readError = this.error;
      if (isGone(error)) this.#clear();
      return false;
    } finally {
      this.changed();
    }
    const { last } = this.#list;
    if (last?.status === "running" && !this.isAnswering && last.generation_id !== this.#refusedGeneration) this.#follow(last);
    return true;
  }

  /** @param {Turn | null} turn that is in the list now */
  #finishTurn(turn) {
    if (turn === null) return;
    if (this.answer?.messageId) this.#list.keepKeys(this.answer.messageId, turn);
    this.#turn = null;
  }

  /** Show that the session does not exist. */
  #clear() {
    this.state = "gone";
    this.#turn = null;
    this.answer = null;
    this.#list.clear();
  }

  /** Close the connection of a running answer while the session is not shown: a browser has six per server. */
  hide() {
    this.#hidden = true;
    this.answer?.detach();
    this.changed();
  }

  async show() {
    this.#hidden = false;
    if (this.isDetached) await this.reattach();
    else await this.refresh();
  }

  /** Check whether a detached answer has ended. */
  async pollStatus() {
    if (this.id === null || !this.isDetached) return;
    try {
      const page = await this.#api.messages(this.id, null, 1);
      if (page.data[0]?.status === "running" || !this.isDetached) return;
    } catch (error) {
      if (error instanceof NetworkError) return; // poll again later
    }
    await this.reattach();
    this.#onChange(this, false);
  }

  /** Read the session again if another client has changed it. */
  async refresh() {
    if (this.id === null || this.isAnswering) return;
    const isRunning = this.#list.last?.status === "running";
    if (this.session !== null && this.#turn === null && this.#readError === null && !isRunning) {
      try {
        const session = await this.#api.session(this.id);
        if (session.last_updated === this.session.last_updated && session.head === this.session.head) return;
      } catch (error) {
        if (!isRequestError(error)) throw error;
        if (!isGone(error)) return; // check again later
      }
    }
    await this.#read();
  }

  /** Load the page before the oldest message. */
  async loadOlder() {
    if (this.id === null) return;
    try {
      const loading = this.#list.loadOlder(this.id);
      this.changed();
      await loading;
    } catch (error) {
      this.#setError(error);
    }
    this.changed();
  }

  /**
   * Load and scroll to a message, on whichever branch it is.
   * @param {string} messageId
   */
  async reveal(messageId) {
    await this.load();
    const isLoaded =
      (await this.#loadUpTo(messageId)) || ((await this.switchTo(messageId)) && (await this.#loadUpTo(messageId)));
    if (isLoaded) this.scrollTo({ messageId, control: null });
  }

  /**
   * Load pages until this message is in the list. Returns whether it is.
   * @param {string} messageId
   */
  async #loadUpTo(messageId) {
    const id = /** @type {string} */ (this.id);
    const isLoaded = () => this.#list.get(messageId) !== undefined;
    await this.#attempt(async () => {
      for (let page = 0; page < MAX_REVEAL_PAGES && this.hasOlder && !isLoaded(); page += 1)
        await this.#list.loadOlder(id); // not rendered before the message is found
    });
    return isLoaded();
  }

  /** @param {ScrollTarget} target */
  scrollTo(target) {
    this.scrollTarget = target;
    this.changed();
  }

  /** @param {Message} running */
  #follow(running) {
    this.answer = Answer.follow(this.#api, {
      session_id: /** @type {string} */ (this.id),
      generation_id: /** @type {string} */ (running.generation_id),
      message_id: running.id,
      model: running.model,
    });
    if (this.#hidden) this.answer.detach();
    this.changed();
    void this.#readAnswer(this.answer);
  }

  // Sending

  /** @param {Attachment[]} attachments all attachments of the next message */
  setAttachments(attachments) {
    this.attachments = attachments;
    this.changed();
  }

  /**
   * Send a message, and read the answer. Returns when the answer is over; never throws.
   * @param {string} text
   * @param {Attachment[]} attachments
   */
  async send(text, attachments) {
    await this.#startTurn({ text, attachments, replaces: null });
  }

  /**
   * Send an edited user message, which starts a new branch.
   * @param {Message} message
   * @param {string} text
   */
  async edit(message, text) {
    await this.#startTurn({ text, attachments: attachmentsOf(message), replaces: message.id });
  }

  /**
   * Request another version of an answer.
   * @param {Message} message
   */
  async regenerate(message) {
    await this.#startTurn({ text: "", attachments: [], replaces: message.id });
  }

  /** @param {OutgoingMessage} message */
  async #startTurn(message) {
    if (this.isAnswering || this.#preparing) return this.#returnToComposer(message);
    if (this.#turn !== null && !(await this.#listLastTurn())) return this.#returnToComposer(message);
    this.error = null;
    this.returnedDraft = null;
    this.#turn = new Turn(message, this.#list.get(message.replaces), this.id);
    const session = this.id === null ? { developer_message: this.developerMessage } : { session_id: this.id };
    const answer = new Answer(this.#api, this.#turn.body(this.settings, session));
    this.answer = answer;
    const unwatch = answer.watch(() => {
      if (answer.sessionId === null) return;
      unwatch();
      this.#onConfirmed(answer.sessionId);
    });
    this.changed();
    await this.#readAnswer(answer);
    unwatch();
  }

  /** Read the previous turn from the server before the next one starts. Returns whether it succeeded. */
  async #listLastTurn() {
    this.#preparing = true;
    await this.#read();
    this.#preparing = false;
    return this.#turn === null && !this.isAnswering;
  }

  /**
   * The server has stored the message.
   * @param {string} sessionId
   */
  #onConfirmed(sessionId) {
    this.#turn?.forgetDraft();
    if (this.id === null) this.#onCreated(sessionId);
    if (this.#hidden) this.answer?.detach();
    this.#onChange(this, true);
    this.changed();
  }

  /** @param {string} id of the session that the first message has created */
  #onCreated(id) {
    this.id = id;
    drafts.set(DEVELOPER_DRAFT, "");
    void this.#settings.save();
  }

  /** @param {Answer} answer */
  async #readAnswer(answer) {
    await answer.read();
    if (answer !== this.answer) return;
    const ours = this.#turn !== null;
    if (answer.state === "refused") await this.#onRefused(answer);
    else if (answer.state === "ended") {
      if (answer.status === "completed") modelChoice.remember(this.settings.model);
      await this.#read(); // if it fails, the streamed text stays
      this.#onChange(this, ours);
    }
    this.changed();
  }

  /**
   * Handle a refused request. Either a running answer cannot be read; or the message is stored, with an answer that
   * failed at once; or the message was rejected.
   * @param {Answer} answer
   */
  async #onRefused({ refusal, generationId }) {
    const response = refusal instanceof ApiError ? refusal : null;
    if (generationId !== null) {
      this.#refusedGeneration = generationId;
      await this.#read();
      if (this.#list.last?.status === "running") this.error = refusal;
    } else if (response !== null && response.generationId !== null && response.status !== 409) {
      this.#turn?.forgetDraft();
      if (this.id === null && response.sessionId !== null) this.#onCreated(response.sessionId);
      if (response.status === 429 && response.retryAfter !== null)
        this.#list.keepRetryAfter(response.generationId, response.retryAfter);
      await this.#read(); // the failed answer shows the reason
      this.#onChange(this, true);
    } else {
      const message = this.#turn?.message ?? null;
      this.#turn = null;
      this.answer = null;
      if (response?.status === 409) await this.#read();
      this.error = refusal;
      if (message !== null) this.#returnToComposer(message);
    }
  }

  /** Stop the running answer. Its text so far is kept. */
  async stop() {
    const { answer } = this;
    if (answer === null || answer.isOver) return;
    try {
      await answer.stop();
    } catch (error) {
      this.#setError(error);
      this.changed();
    }
    if (this.isDetached) await this.reattach();
    const turn = this.#turn;
    if (answer.state !== "lost" || answer.generationId !== null || answer !== this.answer || turn === null) return;
    this.#turn = null;
    this.answer = null;
    this.#returnToComposer(turn.message);
  }

  /**
   * Offer a message that the server has not confirmed to the composer.
   * @param {OutgoingMessage} message
   */
  #returnToComposer(message) {
    this.returnedDraft = message.replaces === null ? message : null;
    this.changed();
  }

  /** Write the start of a message into the composer. @param {string} text */
  suggest(text) {
    this.suggestion = text;
    this.changed();
  }

  /** The composer shows the returned draft. */
  acceptReturnedDraft() {
    this.returnedDraft = null;
    if (this.id === null) drafts.set(SENT_DRAFT, "");
  }

  /** Read a detached or lost answer again. */
  async reattach() {
    this.#refusedGeneration = null;
    await this.#read();
  }

  // Changing the session

  /**
   * Make the active path go through this message. Returns whether it does.
   * @param {string} messageId
   */
  async switchTo(messageId) {
    if (this.id === null) return false;
    const { id } = this;
    const isChanged = await this.#attempt(async () => {
      this.session = await this.#api.changeSession(id, { head: messageId });
    });
    if (!isChanged) return false;
    this.#turn = null;
    this.answer = null;
    return this.#read();
  }

  /**
   * Create a session that continues from this message.
   * @param {Message} message
   * @returns {Promise<Session | null>} null if it failed
   */
  async fork(message) {
    if (this.id === null) return null;
    const { id } = this;
    /** @type {Session | null} */
    let session = null;
    await this.#attempt(async () => {
      session = await this.#api.fork(id, message.id);
    });
    return session;
  }

  /**
   * @param {string} text
   * @returns {Promise<boolean>} whether it was saved
   */
  async changeDeveloperMessage(text) {
    if (this.id === null) {
      this.developerMessage = text;
      drafts.set(DEVELOPER_DRAFT, text);
      this.changed();
      return true;
    }
    const { id } = this;
    return this.#attempt(async () => {
      this.session = await this.#api.changeSession(id, { developer_message: text });
      this.#onChange(this, true);
      this.changed();
    });
  }

  /**
   * @param {ChatSettings} settings
   * @returns {Promise<boolean>} whether they were saved, or will be when the session is created
   */
  async changeSettings(settings) {
    this.#settings.values = settings;
    this.changed();
    return this.id === null || this.#settings.save();
  }

  /**
   * @param {(metadata: Record<string, string>) => Record<string, string>} edit
   * @returns {Promise<boolean>} whether it was saved
   */
  #editMetadata(edit) {
    return this.#attempt(async () => {
      const id = /** @type {string} */ (this.id);
      const { metadata } = this.session ?? (await this.#api.session(id));
      const edited = edit(metadata);
      if (JSON.stringify(edited) !== JSON.stringify(metadata))
        this.session = await this.#api.changeSession(id, { metadata: edited });
    });
  }

  dismissError() {
    this.error = null;
    this.changed();
  }

  /**
   * Run a request. Returns whether it succeeded; a failure is stored in `error`.
   * @param {() => Promise<void>} request
   */
  async #attempt(request) {
    try {
      await request();
      return true;
    } catch (error) {
      this.#setError(error);
      this.changed();
      return false;
    }
  }

  /** @param {unknown} error */
  #setError(error) {
    if (!isRequestError(error)) throw error;
    this.error = error;
  }
}

/** @param {unknown} error */
function isGone(error) {
  return error instanceof ApiError && error.status === 404 && error.code !== null; // a proxy's 404 means nothing
}
