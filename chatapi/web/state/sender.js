// Sends the messages of a session: turns, the answer of each, and a message that waits until an answer ends.
import { ApiError } from "../api/client.js";
import { Answer } from "./answer.js";
import { modelChoice } from "./model-choice.js";
import { drafts } from "./storage.js";
import { DEVELOPER_DRAFT, Turn } from "./turn.js";

/**
 * @typedef {import("./conversation.js").Conversation} Conversation
 * @typedef {import("./turn.js").OutgoingMessage} OutgoingMessage
 */

export class Sender {
  /** A message that is sent when the running answer is complete. @type {OutgoingMessage | null} */
  queued = null;

  #conversation;
  /** Whether a message waits until the previous turn is in the list. */
  #preparing = false;
  /** Whether the queued message follows the running answer also if that is stopped. */
  #interrupts = false;

  /** @param {Conversation} conversation */
  constructor(conversation) {
    this.#conversation = conversation;
  }

  /**
   * Send a message, and read the answer. Returns when the answer is over; never throws. A message that cannot be sent
   * returns to the composer.
   * @param {OutgoingMessage} message
   */
  async send(message) {
    const conversation = this.#conversation;
    if (conversation.isAnswering || this.#preparing) return this.#returnToComposer(message);
    if (conversation.turn !== null && !(await this.#listLastTurn())) return this.#returnToComposer(message);
    conversation.error = null;
    conversation.returnedDraft = null;
    const turn = new Turn(message, conversation.list.get(message.replaces), conversation.id);
    conversation.turn = turn;
    const { id, developerMessage, settings } = conversation;
    const session = id === null ? { developer_message: developerMessage } : { session_id: id };
    const answer = new Answer(conversation.api, turn.body(settings, session));
    conversation.answer = answer;
    const unwatch = answer.watch(() => {
      if (answer.sessionId === null) return;
      unwatch();
      this.#onConfirmed(answer.sessionId);
    });
    conversation.changed();
    await this.readAnswer(answer);
    unwatch();
  }

  /** Read the previous turn from the server before the next one starts. Returns whether it succeeded. */
  async #listLastTurn() {
    this.#preparing = true;
    await this.#conversation.reader.read();
    this.#preparing = false;
    return this.#conversation.turn === null && !this.#conversation.isAnswering;
  }

  /**
   * The server has stored the message.
   * @param {string} sessionId
   */
  #onConfirmed(sessionId) {
    const conversation = this.#conversation;
    conversation.turn?.forgetDraft();
    if (conversation.id === null) this.#onCreated(sessionId);
    if (conversation.isHidden) conversation.answer?.detach();
    conversation.onChange(conversation, true);
    conversation.changed();
  }

  /** @param {string} id of the session that the first message has created */
  #onCreated(id) {
    const conversation = this.#conversation;
    conversation.id = id;
    drafts.set(DEVELOPER_DRAFT, "");
    // One after the other, and reads wait: each response is the whole session, and the last one to arrive is shown.
    const marked = conversation.isTemporary ? conversation.changeTemporary(true) : Promise.resolve(true);
    conversation.created = marked.then(() => conversation.sessionSettings.save());
  }

  /** Read an answer to its end. @param {Answer} answer */
  async readAnswer(answer) {
    const conversation = this.#conversation;
    await answer.read();
    if (answer !== conversation.answer) return;
    const ours = conversation.turn !== null;
    if (answer.state === "refused") await this.#onRefused(answer);
    else if (answer.state === "ended") {
      if (answer.status === "completed") modelChoice.remember(conversation.settings.model);
      await conversation.reader.read(); // if it fails, the streamed text stays
      conversation.onChange(conversation, ours);
    }
    conversation.changed();
    this.settleQueue();
  }

  /**
   * Handle a refused request. Either a running answer cannot be read; or the message is stored, with an answer that
   * failed at once; or the message was rejected.
   * @param {Answer} answer
   */
  async #onRefused({ refusal, generationId }) {
    const conversation = this.#conversation;
    const { reader, list, turn } = conversation;
    const response = refusal instanceof ApiError ? refusal : null;
    if (generationId !== null) {
      reader.refusedGeneration = generationId;
      await reader.read();
      if (list.last?.status === "running") conversation.error = refusal;
    } else if (response !== null && response.generationId !== null && response.status !== 409) {
      turn?.forgetDraft();
      if (conversation.id === null && response.sessionId !== null) this.#onCreated(response.sessionId);
      if (response.status === 429 && response.retryAfter !== null)
        list.keepRetryAfter(response.generationId, response.retryAfter);
      await reader.read(); // the failed answer shows the reason
      conversation.onChange(conversation, true);
    } else {
      conversation.turn = null;
      conversation.answer = null;
      if (response?.status === 409) await reader.read();
      conversation.error = refusal;
      if (turn !== null) this.#returnToComposer(turn.message);
    }
  }

  /** Stop the running answer. Its text so far is kept. */
  async stop() {
    const conversation = this.#conversation;
    const { answer } = conversation;
    if (answer === null || answer.isOver) return;
    try {
      await answer.stop();
    } catch (error) {
      conversation.setError(error);
      conversation.changed();
    }
    if (conversation.isDetached) await conversation.reattach();
    const { turn } = conversation;
    if (answer.state !== "lost" || answer.generationId !== null || answer !== conversation.answer || turn === null) return;
    conversation.turn = null;
    conversation.answer = null;
    this.#returnToComposer(turn.message);
  }

  // The queue

  /**
   * Send a message when the running answer is complete. A second one is appended to the first.
   * @param {OutgoingMessage} message
   */
  queue(message) {
    const { queued } = this;
    const texts = [queued?.text ?? "", message.text].filter(Boolean);
    this.queued = { ...message, text: texts.join("\n\n"), attachments: [...(queued?.attachments ?? []), ...message.attachments] };
    this.#conversation.changed();
  }

  /** Return the queued message to the composer. */
  unqueue() {
    const { queued } = this;
    this.queued = null;
    this.#interrupts = false;
    if (queued !== null) this.#returnToComposer(queued);
  }

  /** Stop the running answer, and send the queued message after it. */
  async sendQueuedNow() {
    this.#interrupts = true;
    this.#conversation.changed();
    await this.stop();
  }

  /** Send the queued message if the answer before it is complete; return it to the composer if that failed. */
  settleQueue() {
    const { queued } = this;
    const { isAnswering, list, state } = this.#conversation;
    if (queued === null || isAnswering || this.#preparing || state !== "ready") return;
    const isComplete = list.last?.status === "completed" || (this.#interrupts && list.last?.status === "stopped");
    if (!isComplete) return this.unqueue();
    this.queued = null;
    this.#interrupts = false;
    void this.send(queued);
  }

  /**
   * Offer a message that the server has not confirmed to the composer.
   * @param {OutgoingMessage} message
   */
  #returnToComposer(message) {
    this.#conversation.returnedDraft = message.replaces === null ? message : null;
    this.#conversation.changed();
  }
}
