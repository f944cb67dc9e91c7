// The form in which messages are written, with their attachments.
import { AttachmentError, MAX_ATTACHMENTS, readAttachment } from "../state/attachments.js";
import { useWatch } from "../state/observable.js";
import { drafts } from "../state/storage.js";
import { strings } from "../strings.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "../vendor/htm-preact.js";
import { isComposing } from "./composition.js";
import { ContextMeter } from "./context-meter.js";
import { useFileDrop } from "./file-drop.js";
import { focusComposer, isTouch } from "./focus.js";
import { Icon, IconButton } from "./icons.js";
import { EffortPicker, ModelPicker } from "./model-picker.js";
import { Notice } from "./notice.js";

/**
 * @typedef {import("../state/chat.js").Chat} Chat
 * @typedef {import("../state/conversation.js").Conversation} Conversation
 */

const LONG_PASTE_CHARACTERS = 10_000; // a longer text becomes a file, which keeps the message readable

/** @param {{chat: Chat, conversation: Conversation}} properties keyed by the conversation: each has its own draft */
export function Composer({ chat, conversation }) {
  useWatch(conversation);
  const place = conversation.id ?? ""; // of the draft
  const [text, setText] = useState(() => {
    const draft = drafts.get(place);
    return draft === conversation.pendingText ? "" : draft;
  });
  const { attachments } = conversation;
  const [problem, setProblem] = useState(/** @type {string | null} */ (null));
  const box = useRef(/** @type {HTMLTextAreaElement | null} */ (null));
  const file = useRef(/** @type {HTMLInputElement | null} */ (null));

  const { queued } = conversation.sender;
  const write = (/** @type {string} */ written) => {
    setText(written);
    saveDraft(written);
  };
  // A queued message exists in this page only, so it is kept with the draft.
  const saveDraft = (/** @type {string} */ written) =>
    drafts.set(place, [conversation.sender.queued?.text, written].filter(Boolean).join("\n\n"));
  const isQueued = useRef(false);
  useEffect(() => {
    const isSending = conversation.pendingText !== null; // its draft is kept by its turn
    if (isQueued.current !== (queued !== null) && !isSending) saveDraft(text);
    isQueued.current = queued !== null;
  }, [queued]);
  useEffect(() => {
    if (conversation.pendingText === null && text !== "" && drafts.get(place) === "") drafts.set(place, text);
  }, [conversation.pendingText]);
  // Text that is written while a session is being created belongs to that session.
  const previousPlace = useRef(place);
  useEffect(() => {
    if (previousPlace.current !== place && text !== "") {
      drafts.set(previousPlace.current, "");
      drafts.set(place, text);
    }
    previousPlace.current = place;
  }, [place]);
  // A message that could not be sent returns, in front of text that was written meanwhile.
  useEffect(() => {
    const { returnedDraft } = conversation;
    if (returnedDraft === null) return;
    conversation.acceptReturnedDraft();
    if (returnedDraft.text) write(text.trim() ? `${returnedDraft.text}\n\n${text}` : returnedDraft.text);
    conversation.setAttachments([...returnedDraft.attachments, ...conversation.attachments]);
  }, [conversation.returnedDraft]);
  useEffect(() => {
    const { suggestion } = conversation;
    if (suggestion === null) return;
    conversation.suggestion = null;
    write(suggestion);
    box.current?.focus();
  }, [conversation.suggestion]);
  useLayoutEffect(() => fitToText(box.current), [text]);
  useEffect(focusComposer, []);
  // The button that had the focus may be gone: stop, a suggestion, try again.
  useEffect(() => {
    if (document.activeElement === document.body) focusComposer();
  }, [conversation.answer, conversation.isAnswering]);

  const attach = async (/** @type {Iterable<File>} */ files) => {
    setProblem(null);
    const maxBytes = chat.account.config?.max_media_bytes ?? Infinity;
    for (const one of files) {
      try {
        const attachment = await readAttachment(one, maxBytes);
        const all = [...conversation.attachments, attachment];
        const bytes = all.reduce((sum, each) => sum + (each.type === "image" ? each.url : each.data).length, 0);
        if (all.length > MAX_ATTACHMENTS) throw new AttachmentError(strings.composer.tooMany(MAX_ATTACHMENTS));
        if (bytes > maxBytes * 0.9) throw new AttachmentError(strings.composer.tooLarge(attachment.name));
        conversation.setAttachments(all);
      } catch (error) {
        if (!(error instanceof AttachmentError)) throw error;
        setProblem(error.message);
      }
    }
  };
  const isDropping = useFileDrop(conversation, attach);
  const hasContent = text.trim() !== "" || attachments.length > 0;
  const canSend = hasContent && conversation.state === "ready";
  const isTooLong = () =>
    new TextEncoder().encode(text).length > (chat.account.config?.max_message_bytes ?? Infinity);
  const send = () => {
    if (!canSend) return;
    if (isTooLong()) {
      setProblem(strings.composer.tooLong);
      return;
    }
    setText("");
    conversation.setAttachments([]);
    setProblem(null);
    chat.announce(conversation.isAnswering ? strings.composer.queue : strings.announcedSending);
    void conversation.send(text, attachments);
  };
  const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
    if (isComposing(event)) return;
    if (event.key === "Enter" && !event.shiftKey && !isTouch()) {
      event.preventDefault();
      send();
    } else if (event.key === "ArrowUp" && text === "") {
      const editButtons = document.querySelectorAll(".message.user .edit");
      const last = editButtons.item(editButtons.length - 1);
      if (!(last instanceof HTMLElement)) return;
      event.preventDefault();
      last.click();
    }
  };
  const pasteAsText = (/** @type {string} */ pasted) => {
    const others = conversation.attachments.filter((one) => one.name !== strings.composer.pastedName);
    conversation.setAttachments(others);
    write(`${box.current?.value ?? ""}${pasted}`);
    box.current?.focus();
  };
  const onPaste = (/** @type {ClipboardEvent} */ event) => {
    const files = event.clipboardData?.files;
    const pasted = event.clipboardData?.getData("text/plain") ?? "";
    if (pasted.length > LONG_PASTE_CHARACTERS) {
      event.preventDefault();
      void attach([new File([pasted], strings.composer.pastedName, { type: "text/plain" })]);
      chat.toasts.show(strings.composer.pasted, { label: strings.composer.pasteAsText, act: () => pasteAsText(pasted) });
      return;
    }
    if (!files?.length || pasted !== "") return; // office programs add an image to text
    event.preventDefault();
    void attach(files);
  };

  const model = conversation.settings.model || (chat.account.config?.default_model ?? "");
  return html`<form
    class="composer ${isDropping ? "dropping" : ""}"
    onSubmit=${(/** @type {Event} */ event) => [event.preventDefault(), send()]}
  >
    ${problem !== null && html`<${Notice} text=${problem} onDismiss=${() => setProblem(null)} />`}
    ${queued !== null && html`<${Queued} conversation=${conversation} message=${queued} />`}
    ${attachments.length > 0 &&
    html`<ul class="attachments">
      ${attachments.map(
        (one, index) => html`<li>
          ${one.type === "image" ? html`<img src=${one.url} alt=${one.name} />` : html`<span><${Icon} name="file" /> <bdi>${one.name}</bdi></span>`}
          <${IconButton} icon="close" label=${strings.composer.remove(one.name)} onClick=${() => conversation.setAttachments(attachments.filter((_, at) => at !== index))} />
        </li>`,
      )}
    </ul>`}
    <textarea
      ref=${box}
      id="composer"
      dir="auto"
      rows="1"
      aria-label=${strings.composer.label}
      placeholder=${isDropping ? strings.composer.dropHere : strings.composer.placeholder}
      enterkeyhint=${isTouch() ? "enter" : "send"}
      value=${text}
      onInput=${(/** @type {InputEvent} */ event) => write(/** @type {HTMLTextAreaElement} */ (event.target).value)}
      onKeyDown=${onKeyDown}
      onPaste=${onPaste}
    ></textarea>
    <div class="composer-row">
      <${IconButton} icon="attach" label=${strings.composer.attach} onClick=${() => file.current?.click()} />
      <input ref=${file} type="file" multiple hidden
        onChange=${() => [void attach([...(file.current?.files ?? [])]), file.current && (file.current.value = "")]} />
      <${ModelPicker} chat=${chat} conversation=${conversation} />
      <${EffortPicker} conversation=${conversation} model=${model} />
      <span class="gap"></span>
      <${ContextMeter} conversation=${conversation} model=${model} />
      ${conversation.isAnswering &&
      html`<${IconButton} icon="stop" filled class="primary stop" label=${strings.composer.stop} shortcut="Esc" onClick=${() => conversation.stop()} />`}
      ${(hasContent || !conversation.isAnswering) &&
      html`<${IconButton} icon=${conversation.isAnswering ? "queue" : "send"} class="primary send" disabled=${!canSend} onClick=${send}
        label=${conversation.isAnswering ? strings.composer.queue : strings.composer.send} />`}
    </div>
  </form>`;
}

/**
 * The message that waits for the end of an answer.
 * @param {{conversation: Conversation, message: import("../state/turn.js").OutgoingMessage}} properties
 */
function Queued({ conversation, message }) {
  const { sender } = conversation;
  return html`<div class="queued" role="status">
    <${Icon} name="queue" />
    <p><span>${strings.composer.queued}</span> <bdi>${message.text || strings.composer.attachmentCount(message.attachments.length)}</bdi></p>
    <button type="button" onClick=${() => sender.sendQueuedNow()}>${strings.composer.sendNow}</button>
    <${IconButton} icon="close" label=${strings.composer.unqueue} onClick=${() => sender.unqueue()} />
  </div>`;
}

/** Make a box as high as its text. @param {HTMLTextAreaElement | null} box */
function fitToText(box) {
  if (box === null) return;
  box.style.height = "auto";
  box.style.height = `${box.scrollHeight}px`;
}
