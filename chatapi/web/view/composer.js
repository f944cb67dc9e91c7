// Where messages are written.
import { html, useEffect, useLayoutEffect, useRef, useState } from "../vendor/htm-preact.js";
import { attach, MOST, Unattachable } from "../attachments.js";
import { useWatch } from "../observable.js";
import { drafts } from "../storage.js";
import { strings } from "../strings.js";
import { focusComposer, isTouch } from "./focus.js";
import { Icon, IconButton } from "./icons.js";

/**
 * @typedef {import("../chat.js").Chat} Chat
 * @typedef {import("../conversation.js").Conversation} Conversation
 */

/** @param {{chat: Chat, conversation: Conversation}} properties keyed by the conversation: each has its own draft */
export function Composer({ chat, conversation }) {
  useWatch(conversation);
  const place = conversation.id ?? "";
  const [text, setText] = useState(() => {
    const draft = drafts.get(place);
    return draft === conversation.onTheirWay ? "" : draft;
  });
  const { attachments } = conversation;
  const [complaint, setComplaint] = useState(/** @type {string | null} */ (null));
  const [dropping, setDropping] = useState(false);
  const box = useRef(/** @type {HTMLTextAreaElement | null} */ (null));
  const file = useRef(/** @type {HTMLInputElement | null} */ (null));

  const write = (/** @type {string} */ written) => {
    setText(written);
    drafts.set(place, written);
  };
  // What is written while a chat begins belongs to that chat.
  const placed = useRef(place);
  useEffect(() => {
    if (placed.current !== place && text !== "") {
      drafts.set(placed.current, "");
      drafts.set(place, text);
    }
    placed.current = place;
  }, [place]);
  // What could not be sent comes back, unless something else was written meanwhile.
  useEffect(() => {
    const { unsaid } = conversation;
    if (unsaid === null) return;
    conversation.takeBack();
    if (unsaid.text) write(text.trim() ? `${unsaid.text}\n\n${text}` : unsaid.text);
    conversation.attach([...unsaid.attachments, ...conversation.attachments]);
  }, [conversation.unsaid]);
  useLayoutEffect(() => fit(box.current), [text]);
  useEffect(focusComposer, []);
  // A button that was pressed may be gone now: to stop, to suggest, to try again.
  useEffect(() => {
    if (document.activeElement === document.body) focusComposer();
  }, [conversation.answer, conversation.answering]);

  const add = async (/** @type {Iterable<File>} */ files) => {
    setComplaint(null);
    const most = chat.account.config?.max_media_bytes ?? Infinity;
    for (const one of files) {
      try {
        const made = await attach(one, most);
        const all = [...conversation.attachments, made];
        const size = all.reduce((sum, each) => sum + (each.type === "image" ? each.url : each.data).length, 0);
        if (all.length > MOST) throw new Unattachable(strings.composer.tooMany(MOST));
        if (size > most * 0.9) throw new Unattachable(strings.composer.tooLarge(made.name));
        conversation.attach(all);
      } catch (error) {
        if (!(error instanceof Unattachable)) throw error;
        setComplaint(error.message);
      }
    }
  };
  const isSaid = text.trim() !== "" || attachments.length > 0;
  const sendable = isSaid && !conversation.answering && conversation.state === "ready";
  const tooLong = () =>
    new TextEncoder().encode(text).length > (chat.account.config?.max_message_bytes ?? Infinity);
  const send = () => {
    if (!sendable) return;
    if (tooLong()) {
      setComplaint(strings.composer.tooLong);
      return;
    }
    setText("");
    conversation.attach([]);
    setComplaint(null);
    chat.say(strings.announcedSending);
    void conversation.send(text, attachments);
  };
  const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
    if (event.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey && !isTouch()) {
      event.preventDefault();
      send();
    } else if (event.key === "ArrowUp" && text === "") {
      const edits = document.querySelectorAll(".message.user .edit");
      const last = edits.item(edits.length - 1);
      if (!(last instanceof HTMLElement)) return;
      event.preventDefault();
      last.click();
    }
  };
  const onPaste = (/** @type {ClipboardEvent} */ event) => {
    const files = event.clipboardData?.files;
    if (!files?.length || event.clipboardData?.types.includes("text/plain")) return; // a text has its picture with it
    event.preventDefault();
    void add(files);
  };
  // Files may be dropped anywhere: beside the box, the browser would leave the page for them.
  useEffect(() => {
    const hasFiles = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files") ?? false;
    const onDragOver = (/** @type {DragEvent} */ event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      setDropping(true);
    };
    const onDragLeave = (/** @type {DragEvent} */ event) => {
      if (event.relatedTarget === null) setDropping(false); // it has left the window
    };
    const onDrop = (/** @type {DragEvent} */ event) => {
      setDropping(false);
      if (!hasFiles(event)) return;
      event.preventDefault();
      void add(event.dataTransfer?.files ?? []);
    };
    addEventListener("dragover", onDragOver);
    addEventListener("dragleave", onDragLeave);
    addEventListener("drop", onDrop);
    return () => {
      removeEventListener("dragover", onDragOver);
      removeEventListener("dragleave", onDragLeave);
      removeEventListener("drop", onDrop);
    };
  }, [conversation]);

  return html`<form
    class="composer ${dropping ? "dropping" : ""}"
    onSubmit=${(/** @type {Event} */ event) => [event.preventDefault(), send()]}
  >
    ${complaint !== null && html`<p class="notice" role="alert">${complaint}</p>`}
    ${attachments.length > 0 &&
    html`<ul class="attachments">
      ${attachments.map(
        (one, index) => html`<li>
          ${one.type === "image" ? html`<img src=${one.url} alt=${one.name} />` : html`<span><${Icon} name="file" /> <bdi>${one.name}</bdi></span>`}
          <${IconButton} icon="close" label=${strings.composer.remove(one.name)} onClick=${() => conversation.attach(attachments.filter((_, at) => at !== index))} />
        </li>`,
      )}
    </ul>`}
    <div class="composer-row">
      <${IconButton} icon="attach" label=${strings.composer.attach} onClick=${() => file.current?.click()} />
      <input ref=${file} type="file" multiple hidden
        onChange=${() => [void add([...(file.current?.files ?? [])]), file.current && (file.current.value = "")]} />
      <textarea
        ref=${box}
        id="composer"
        dir="auto"
        rows="1"
        aria-label=${strings.composer.label}
        placeholder=${dropping ? strings.composer.dropHere : strings.composer.placeholder}
        enterkeyhint=${isTouch() ? "enter" : "send"}
        value=${text}
        onInput=${(/** @type {InputEvent} */ event) => write(/** @type {HTMLTextAreaElement} */ (event.target).value)}
        onKeyDown=${onKeyDown}
        onPaste=${onPaste}
      ></textarea>
      ${conversation.answering
        ? html`<${IconButton} icon="stop" class="primary stop" label=${strings.composer.stop} shortcut="Esc" onClick=${() => conversation.stop()} />`
        : html`<${IconButton} icon="send" class="primary send" label=${strings.composer.send} disabled=${!sendable} onClick=${send} />`}
    </div>
  </form>`;
}

/** Make a box as high as its text. @param {HTMLTextAreaElement | null} box */
function fit(box) {
  if (box === null) return;
  box.style.height = "auto";
  box.style.height = `${box.scrollHeight}px`;
}
