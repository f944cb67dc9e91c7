// One open session: its messages along the active path, and the turn that is running.
import { isRequestError } from "../api/client.js";
import { SessionSettings } from "./chat-settings.js";
import { MessageList } from "./message-list.js";
import { Observable } from "./observable.js";
import { Reader } from "./reader.js";
import { Sender } from "./sender.js";
import { drafts } from "./storage.js";
import { CONTINUE_REQUEST, DEVELOPER_DRAFT, SENT_DRAFT, attachmentsOf } from "./turn.js";

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

/**
 * A position to return to: a message, or the block of its text with this index, and the distance of its top from the top
 * of the view in pixels.
 * @typedef {{messageId: string, block: number | null, offset: number}} ReadingPosition
 */

export class Conversation extends Observable {
  /** @type {string | null} */
  id;
  /** @type {Session | null} */
  session = null;
  /** The answer that streams, or the last one that did. @type {import("./answer.js").Answer | null} */
  answer = null;
  /** The turn that was started here and is not in the list yet. @type {import("./turn.js").Turn | null} */
  turn = null;
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
  isHidden = false;
  /** Whether a session that is not created yet will be temporary. */
  #becomesTemporary = false;
  /** Ends when the session that the first message created has its properties. @type {Promise<unknown>} */
  created = Promise.resolve();

  // The parts of this object. They change it, and only they and the views use these fields.
  api;
  onChange;
  list;
  sessionSettings;
  reader = new Reader(this);
  sender = new Sender(this);

  /**
   * @param {Api} api
   * @param {string | null} id null for a session that its first message creates
   * @param {(conversation: Conversation, ours: boolean) => void} onChange called after the session changed at the
   *   server; `ours` if this page changed it
   */
  constructor(api, id, onChange) {
    super();
    this.api = api;
    this.onChange = onChange;
    this.list = new MessageList(api);
    this.sessionSettings = new SessionSettings((edit) => this.#editMetadata(edit));
    this.id = id;
    this.state = id === null ? "ready" : "loading";
    this.developerMessage = id === null ? drafts.get(DEVELOPER_DRAFT) : "";
  }

  /** The stored messages, from the oldest that is loaded. */
  get messages() {
    return this.list.messages;
  }

  get hasOlder() {
    return this.list.olderCursor !== null;
  }

  get isLoadingOlder() {
    return this.list.isLoadingOlder;
  }

  /** Whether the server deletes the session when it was not used for a while. */
  get isTemporary() {
    return this.session?.temporary ?? this.#becomesTemporary;
  }

  get settings() {
    return this.sessionSettings.values;
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
    return this.reader.error !== null;
  }

  /** The text that is being sent and may return to the composer. */
  get pendingText() {
    const isPending = this.turn !== null && this.isAnswering && this.answer?.generationId === null;
    return isPending ? this.turn?.message.text : null;
  }

  /** The path as it is shown, including the running turn. */
  get shown() {
    return this.list.shown(this.turn, this.answer);
  }

  // Reading

  /** Read the newest messages, and follow a running answer. Never throws: a failure is stored in `error`. */
  async load() {
    await this.reader.load();
  }

  /** Close the connection of a running answer while the session is not shown: a browser has six per server. */
  hide() {
    this.isHidden = true;
    this.answer?.detach();
    this.changed();
  }

  async show() {
    this.isHidden = false;
    if (this.isDetached) await this.reattach();
    else await this.refresh();
  }

  /** Check whether a detached answer has ended. */
  async pollStatus() {
    if (await this.reader.pollStatus()) this.onChange(this, false);
  }

  /** Read the session again if another client has changed it. */
  async refresh() {
    await this.reader.refresh();
  }

  /** Read a detached or lost answer again. */
  async reattach() {
    await this.reader.reattach();
  }

  /** Load the page before the oldest message. */
  async loadOlder() {
    await this.reader.loadOlder();
  }

  /**
   * Load and scroll to a message, on whichever branch it is.
   * @param {string} messageId
   */
  async reveal(messageId) {
    if (await this.reader.find(messageId)) this.scrollTo({ messageId, control: null });
  }

  /** @param {ScrollTarget} target */
  scrollTo(target) {
    this.scrollTarget = target;
    this.changed();
  }

  // Sending

  /** @param {Attachment[]} attachments all attachments of the next message */
  setAttachments(attachments) {
    this.attachments = attachments;
    this.changed();
  }

  /**
   * Send a message, and read the answer. Returns when the answer is over; never throws. While another answer runs, the
   * message waits until that is complete.
   * @param {string} text
   * @param {Attachment[]} attachments
   */
  async send(text, attachments) {
    const message = { text, attachments, replaces: null };
    if (this.isAnswering) this.sender.queue(message);
    else await this.sender.send(message);
  }

  /**
   * Send an edited user message, which starts a new branch.
   * @param {Message} message
   * @param {string} text
   */
  async edit(message, text) {
    await this.sender.send({ text, attachments: attachmentsOf(message), replaces: message.id });
  }

  /**
   * Save another text of an answer as a new version, which starts a new branch. Returns whether it was saved.
   * @param {Message} message
   * @param {string} text
   * @param {string} idempotencyKey of this text: another attempt after a lost response is stored once
   */
  async editAnswer(message, text, idempotencyKey) {
    const { id } = this;
    if (id === null) return false;
    const isSaved = await this.attempt(async () => {
      const edited = await this.api.editMessage(id, message.id, text, idempotencyKey);
      await this.#readPath();
      this.scrollTo({ messageId: edited.id, control: null });
    });
    if (isSaved) this.onChange(this, true);
    return isSaved;
  }

  /**
   * Request another version of an answer.
   * @param {Message} message
   * @param {string} [model] another one than that of the session
   */
  async regenerate(message, model) {
    await this.sender.send({ text: "", attachments: [], replaces: message.id, model });
  }

  /** Ask the model to continue its last answer from the text that is kept. The view joins both. */
  async continueAnswer() {
    await this.sender.send({ text: CONTINUE_REQUEST, attachments: [], replaces: null });
  }

  /** Stop the running answer. Its text so far is kept. */
  async stop() {
    await this.sender.stop();
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

  // Changing the session

  /**
   * Make the active path go through this message. Returns whether it does.
   * @param {string} messageId
   */
  async switchTo(messageId) {
    const { id } = this;
    if (id === null) return false;
    const isChanged = await this.attempt(async () => {
      this.session = await this.api.changeSession(id, { head: messageId });
    });
    return isChanged && this.#readPath();
  }

  /**
   * Delete messages of the active path. The messages after them stay, and follow the ones before.
   * @param {Message[]} messages
   */
  async deleteMessages(messages) {
    const { id } = this;
    if (id === null) return;
    await this.attempt(async () => {
      for (const message of messages) await this.api.deleteMessage(id, message.id);
    });
    await this.#readPath();
    this.onChange(this, true);
  }

  /** Read the active path after a change of the tree. Returns whether it succeeded. */
  async #readPath() {
    this.turn = null;
    this.answer = null;
    return this.reader.read();
  }

  /**
   * Create a session that continues from this message.
   * @param {Message} message
   * @returns {Promise<Session | null>} null if it failed
   */
  async fork(message) {
    const { id } = this;
    if (id === null) return null;
    /** @type {Session | null} */
    let session = null;
    await this.attempt(async () => {
      session = await this.api.fork(id, message.id);
    });
    return session;
  }

  /**
   * @param {string} text
   * @returns {Promise<boolean>} whether it was saved
   */
  async changeDeveloperMessage(text) {
    const { id } = this;
    if (id === null) {
      this.developerMessage = text;
      drafts.set(DEVELOPER_DRAFT, text);
      this.changed();
      return true;
    }
    return this.attempt(async () => {
      this.session = await this.api.changeSession(id, { developer_message: text });
      this.onChange(this, true);
      this.changed();
    });
  }

  /**
   * Make the session temporary, or keep it. Returns whether that was saved, or will be when the session is created.
   * @param {boolean} isTemporary
   */
  async changeTemporary(isTemporary) {
    this.#becomesTemporary = isTemporary;
    const { id } = this;
    this.changed();
    if (id === null) return true;
    return this.attempt(async () => {
      this.session = await this.api.changeSession(id, { temporary: isTemporary });
      this.onChange(this, true);
      this.changed();
    });
  }

  /**
   * @param {ChatSettings} settings
   * @returns {Promise<boolean>} whether they were saved, or will be when the session is created
   */
  async changeSettings(settings) {
    this.sessionSettings.values = settings;
    this.changed();
    return this.id === null || this.sessionSettings.save();
  }

  /**
   * @param {(metadata: Record<string, string>) => Record<string, string>} edit
   * @returns {Promise<boolean>} whether it was saved
   */
  #editMetadata(edit) {
    return this.attempt(async () => {
      const id = /** @type {string} */ (this.id);
      const { metadata } = this.session ?? (await this.api.session(id));
      const edited = edit(metadata);
      if (JSON.stringify(edited) !== JSON.stringify(metadata))
        this.session = await this.api.changeSession(id, { metadata: edited });
    });
  }

  // Called by the parts

  /** @param {import("./turn.js").Turn | null} turn that is in the list now */
  finishTurn(turn) {
    if (turn === null) return;
    const { messageId, thoughtSeconds } = this.answer ?? { messageId: null, thoughtSeconds: null };
    if (messageId) this.list.keepKeys(messageId, turn);
    if (messageId && thoughtSeconds !== null) this.list.keepThought(messageId, thoughtSeconds);
    this.turn = null;
  }

  /** Show that the session does not exist. */
  clear() {
    this.state = "gone";
    this.turn = null;
    this.answer = null;
    this.list.clear();
  }

  dismissError() {
    this.error = null;
    this.changed();
  }

  /**
   * Run a request. Returns whether it succeeded; a failure is stored in `error`.
   * @param {() => Promise<void>} request
   */
  async attempt(request) {
    try {
      await request();
      return true;
    } catch (error) {
      this.setError(error);
      this.changed();
      return false;
    }
  }

  /** @param {unknown} error */
  setError(error) {
    if (!isRequestError(error)) throw error;
    this.error = error;
  }
}
