// The form in which a user message is edited.
import { drafts } from "../state/storage.js";
import { strings } from "../strings.js";
import { html, useLayoutEffect, useRef, useState } from "../vendor/htm-preact.js";
import { isComposing } from "./composition.js";
import { focusComposer, isTouch } from "./focus.js";

/**
 * The text is kept as a draft until the server has it: after an error or a reload the form opens with it again.
 * @param {object} properties
 * @param {import("../state/conversation.js").Conversation} properties.conversation
 * @param {import("../state/turn.js").ShownMessage} properties.message
 * @param {() => void} properties.onCancel
 */
export function EditForm({ conversation, message, onCancel }) {
  const [text, setText] = useState(() => drafts.get(message.id) || message.content);
  const hasContent = text.trim() !== "" || message.parts.some((part) => part.type !== "text");
  const canSend = !conversation.isAnswering && hasContent;
  const send = () => {
    if (!canSend) return;
    drafts.set(message.id, text);
    focusComposer();
    void conversation.edit(message, text);
  };
  const box = useRef(/** @type {HTMLTextAreaElement | null} */ (null));
  useLayoutEffect(() => {
    box.current?.focus();
    box.current?.setSelectionRange(text.length, text.length);
  }, []);
  const onInput = (/** @type {InputEvent} */ event) => {
    const { value } = /** @type {HTMLTextAreaElement} */ (event.target);
    setText(value);
    drafts.set(message.id, value);
  };
  const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
    if (isComposing(event)) return;
    if (event.key === "Escape") onCancel();
    else if (event.key === "Enter" && !event.shiftKey && !isTouch()) send();
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
      rows=${Math.min(12, text.split("\n").length + 1)}
      aria-label=${strings.message.editLabel}
      value=${text}
      onInput=${onInput}
      onKeyDown=${onKeyDown}
    ></textarea>
    <div class="buttons">
      <button type="button" onClick=${onCancel}>${strings.cancel}</button>
      <button type="submit" class="primary" disabled=${!canSend}>${strings.message.sendEdit}</button>
    </div>
  </form>`;
}
