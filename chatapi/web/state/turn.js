// A turn that this page has started: the outgoing message, its draft, and how both are shown until the server lists them.
import { requestFields } from "./chat-settings.js";
import { factsOf } from "./model-facts.js";
import { drafts } from "./storage.js";

/**
 * @typedef {import("./answer.js").Answer} Answer
 * @typedef {import("../types.d.ts").Attachment} Attachment
 * @typedef {import("../types.d.ts").ChatSettings} ChatSettings
 * @typedef {import("../types.d.ts").Message} Message
 */

/**
 * A message as it is shown. `key` stays the same when the server assigns the message its id; `answer` is present while
 * the answer streams; `retryAfter` is the time that a refusal of this answer named, in seconds; `thoughtSeconds` is how
 * long the model has reasoned, if this page has measured it.
 * @typedef {Message & {key: string, answer?: Answer, retryAfter: number | null, thoughtSeconds: number | null}} ShownMessage
 */

/**
 * `replaces` is the id of a message of which this one is a new version; `model` is another one than that of the session.
 * @typedef {{text: string, attachments: Attachment[], replaces: string | null, model?: string}} OutgoingMessage
 */

/** What the model is asked to continue an answer, in every language; the view shows a line in its place. */
export const CONTINUE_REQUEST = "Continue exactly where your last message stops. Repeat nothing, and do not comment on the break.";
export const SENT_DRAFT = "sent"; // place of the first message of a session while it is being sent
export const DEVELOPER_DRAFT = "developer"; // place of the developer message of a session that is not created yet

let turns = 0;

export class Turn {
  /** @type {OutgoingMessage} */
  message;
  /** Whether it contains a user message; false if it only asks for another answer. */
  asks;

  #key;
  #draftPlace;
  #startedAt = new Date().toISOString();

  /**
   * Keeps the text as a draft until the server has it.
   * @param {OutgoingMessage} message
   * @param {Message | undefined} replaced the message that `message.replaces` names
   * @param {string | null} sessionId
   */
  constructor(message, replaced, sessionId) {
    turns += 1;
    this.message = message;
    this.asks = replaced === undefined || replaced.role === "user";
    this.#key = `turn-${turns}`;
    this.#draftPlace = message.replaces ?? sessionId ?? SENT_DRAFT;
    if (this.asks) drafts.set(this.#draftPlace, message.text);
    if (this.#draftPlace === SENT_DRAFT) drafts.set("", "");
  }

  get questionKey() {
    return `${this.#key}-question`;
  }

  get answerKey() {
    return `${this.#key}-answer`;
  }

  /**
   * The request body.
   * @param {ChatSettings} settings
   * @param {{session_id: string} | {developer_message: string}} session an existing one, or a new one
   */
  body(settings, session) {
    const { text, attachments, replaces, model } = this.message;
    return {
      ...requestFields(model === undefined ? settings : withModel(settings, model)),
      ...session,
      ...(this.asks && text !== "" ? { user_message: text } : {}),
      ...(replaces === null ? {} : { replace: replaces }),
      ...(attachments.length ? { attachments: attachments.map(({ name, ...sent }) => sent) } : {}),
    };
  }

  /** Remove the draft, because the server has the message. */
  forgetDraft() {
    if (drafts.get(this.#draftPlace) === this.message.text) drafts.set(this.#draftPlace, "");
  }

  /**
   * Append this turn to a path, in place of the message that it replaces and all that follow.
   * @param {ShownMessage[]} path changed in place
   * @param {Answer | null} answer
   */
  appendTo(path, answer) {
    const at = path.findIndex((message) => message.id === this.message.replaces);
    if (at >= 0) path.length = at;
    if (this.asks) path.push(this.#question());
    path.push({ ...this.#placeholder(this.answerKey), role: "assistant", content: "", parts: [], status: "running", answer: answer ?? undefined });
  }

  /** @returns {ShownMessage} */
  #question() {
    const { text, attachments } = this.message;
    const parts = attachments.map((one) =>
      one.type === "image" ? { type: "image", url: one.url } : { type: "file", filename: one.filename, data: one.data },
    );
    return {
      ...this.#placeholder(this.questionKey),
      role: "user",
      content: text,
      parts: [...(text ? [{ type: "text", text }] : []), ...parts],
      status: "completed",
    };
  }

  /** @param {string} key */
  #placeholder(key) {
    return { key, retryAfter: null, thoughtSeconds: null, id: key, model: null, usage: null, created_at: this.#startedAt, parent_id: null, sibling_ids: [] };
  }
}

/**
 * The settings with another model. An effort that it does not accept is left out.
 * @param {ChatSettings} settings
 * @param {string} model
 */
function withModel(settings, model) {
  const { reasoning_effort: effort } = settings;
  return { ...settings, model, reasoning_effort: factsOf(model).efforts.includes(effort) ? effort : "" };
}

/** Whether the server has assigned this message its id. @param {Message} message */
export function isStored(message) {
  return !message.id.startsWith("turn-");
}

/**
 * The attachments of a stored message, to be sent again with an edited text.
 * @param {Message} message
 * @returns {Attachment[]}
 */
export function attachmentsOf(message) {
  /** @type {Attachment[]} */
  const attachments = [];
  for (const { type, url, data, filename = "file" } of message.parts) {
    if (type === "image" && url !== undefined) attachments.push({ type, url, name: "" });
    if (type === "file" && data !== undefined) attachments.push({ type, data, filename, name: filename });
  }
  return attachments;
}
