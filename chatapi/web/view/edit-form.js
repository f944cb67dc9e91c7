// The form in which a message is edited: a user message is sent again, an answer is saved without asking the model.
import { randomKey } from "../state/random-key.js";
import { drafts } from "../state/storage.js";
import { strings } from "../strings.js";
import { html, useLayoutEffect, useRef, useState } from "../vendor/htm-preact.js";
import { isComposing } from "./composition.js";
import { focusComposer, isTouch } from "./focus.js";

const ROW_CHARACTERS = 80;

/**
 * The text is kept as a draft until the server has it: after an error or a reload the form opens with it again.
 * @param {object} properties
 * @param {import("../state/conversation.js").Conversation} properties.conversation
 * @param {import("../state/turn.js").ShownMessage} properties.message
 * @param {() => void} properties.onClose called when the form is cancelled, or the new version of an answer is saved
 */
export function EditForm({ conversation, message, onClose }) {
  const isAnswer = message.role === "assistant";
  const [text, setText] = useState(() => drafts.get(message.id) || message.content);
  const [isSaving, setSaving] = useState(false);
  const key = useRef(randomKey()); // of this text
  const hasContent = text.trim() !== "" || (!isAnswer && message.parts.some((part) => part.type !== "text"));
  const canSend = !conversation.isAnswering && hasContent && !isSaving;
  const send = () => {
    if (!canSend) return;
    drafts.set(message.id, text);
    if (isAnswer) {
      void save();
      return;
    }
    focusComposer();
    void conversation.edit(message, text);
  };
  const save = async () => {
    setSaving(true);
    const isSaved = await conversation.editAnswer(message, text, key.current);
    setSaving(false);
    if (!isSaved) return;
    drafts.set(message.id, "");
    onClose();
  };
  const cancel = () => {
    drafts.set(message.id, "");
    focusComposer();
    onClose();
  };
  const box = useRef(/** @type {HTMLTextAreaElement | null} */ (null));
  useLayoutEffect(() => {
    box.current?.focus();
    box.current?.setSelectionRange(text.length, text.length);
  }, []);
  const onInput = (/** @type {InputEvent} */ event) => {
    const { value } = /** @type {HTMLTextAreaElement} */ (event.target);
    setText(value);
    key.current = randomKey();
    drafts.set(message.id, value);
  };
  const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
    if (isComposing(event)) return;
    const sends = isAnswer ? event.ctrlKey || event.metaKey : !event.shiftKey && !isTouch();
    if (event.key === "Escape") cancel();
    else if (event.key === "Enter" && sends) send();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  return html`<form
    class="edit-form"
    onSubmit=${(/** @type {Event} */ event) => {
      event.preventDefault();
      send();
    }}
  >
    <textarea
      ref=${box}
      dir="auto"
      rows=${Math.min(isAnswer ? 24 : 12, rowCount(text) + 1)}
      aria-label=${isAnswer ? strings.message.editAnswerLabel : strings.message.editLabel}
      value=${text}
      onInput=${onInput}
      onKeyDown=${onKeyDown}
    ></textarea>
    <div class="buttons">
      <button type="button" onClick=${cancel}>${strings.cancel}</button>
      <button type="submit" class="primary" disabled=${!canSend}>${isAnswer ? strings.save : strings.message.sendEdit}</button>
    </div>
  </form>`;
}

/** The rows that a text takes, about. @param {string} text */
function rowCount(text) {
  return text.split("\n").reduce((rows, line) => rows + Math.max(1, Math.ceil(line.length / ROW_CHARACTERS)), 0);
}
