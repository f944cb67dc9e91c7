// One message: what was said, how it stands, and what can be done with it.
import { html, useLayoutEffect, useRef, useState } from "../vendor/htm-preact.js";
import { cost, count, duration, pace, time } from "../format.js";
import { StreamingMarkdown } from "../markdown.js";
import { useWatchByFrame } from "../observable.js";
import { drafts } from "../storage.js";
import { strings } from "../strings.js";
import { focusComposer, isTouch } from "./focus.js";
import { Icon, IconButton } from "./icons.js";

/**
 * @typedef {import("../answer.js").Answer} Answer
 * @typedef {import("../chat.js").Chat} Chat
 * @typedef {import("../conversation.js").Conversation} Conversation
 * @typedef {import("../conversation.js").Shown} Shown
 * @typedef {import("../types.d.ts").Part} Part
 * @typedef {import("../types.d.ts").Status} Status
 */

const LONG_CHARACTERS = 6000; // of a message of the user's: more is folded
const COPIED_MS = 1500; // how long a button says that it has copied

/**
 * @typedef {object} MessageProperties
 * @property {Chat} chat
 * @property {Conversation} conversation
 * @property {Shown} message
 * @property {boolean} last
 */

/** @param {MessageProperties} properties */
export function MessageView({ chat, conversation, message, last }) {
  if (message.role === "assistant")
    return html`<${AnswerView} chat=${chat} conversation=${conversation} message=${message} last=${last} />`;
  return html`<${SaidView} conversation=${conversation} message=${message} />`;
}

/** A message that is no answer. @param {{conversation: Conversation, message: Shown}} properties */
function SaidView({ conversation, message }) {
  const [editing, setEditing] = useState(() => drafts.get(message.id) !== "");
  const isQuestion = message.role === "user";
  const kept = !message.id.startsWith("turn-"); // the server has given it its id
  const name = strings.message[isQuestion ? "user" : message.role === "tool" ? "tool" : "system"];
  if (editing) {
    const cancel = () => {
      drafts.set(message.id, "");
      setEditing(false);
      focusComposer();
    };
    return html`<article class="message user" aria-label=${name} id=${message.id}>
      <${Editing} conversation=${conversation} message=${message} onCancel=${cancel} />
    </article>`;
  }
  return html`<article class="message ${message.role}" aria-label=${name} id=${message.id} tabindex="-1">
    <h2 class="hidden">${name}</h2>
    <div class="bubble">
      ${message.parts.map((part, index) => html`<${SaidPart} key=${index} part=${part} />`)}
    </div>
    <footer>
      <${Versions} conversation=${conversation} message=${message} />
      <time datetime=${message.created_at}>${time(message.created_at)}</time>
      <${CopyButton} text=${message.content} />
      ${isQuestion &&
      kept &&
      html`<${IconButton}
        icon="edit"
        label=${strings.message.edit}
        class="edit"
        disabled=${conversation.answering}
        onClick=${() => setEditing(true)}
      />`}
    </footer>
  </article>`;
}

/**
 * The box in which a message is said in other words. They are kept as a draft until the server has them: whatever
 * happens, the box is open with them again.
 * @param {{conversation: Conversation, message: Shown, onCancel: () => void}} properties
 */
function Editing({ conversation, message, onCancel }) {
  const [said, setSaid] = useState(() => drafts.get(message.id) || message.content);
  const canSay = !conversation.answering && (said.trim() !== "" || message.parts.some((part) => part.type !== "text"));
  const say = () => {
    if (!canSay) return;
    drafts.set(message.id, said);
    focusComposer();
    void conversation.edit(message, said);
  };
  const box = useRef(/** @type {HTMLTextAreaElement | null} */ (null));
  useLayoutEffect(() => {
    box.current?.focus();
    box.current?.setSelectionRange(said.length, said.length);
  }, []);
  const write = (/** @type {InputEvent} */ event) => {
    const { value } = /** @type {HTMLTextAreaElement} */ (event.target);
    setSaid(value);
    drafts.set(message.id, value);
  };
  const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
    if (event.isComposing) return;
    if (event.key === "Escape") onCancel();
    else if (event.key === "Enter" && !event.shiftKey && !isTouch()) say();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  return html`<form
    class="editing"
    onSubmit=${(/** @type {Event} */ event) => {
      event.preventDefault();
      say();
    }}
  >
    <textarea
      ref=${box}
      dir="auto"
      rows=${Math.min(12, said.split("\n").length + 1)}
      aria-label=${strings.message.editLabel}
      value=${said}
      onInput=${write}
      onKeyDown=${onKeyDown}
    ></textarea>
    <div class="buttons">
      <button type="button" onClick=${onCancel}>${strings.cancel}</button>
      <button type="submit" class="primary" disabled=${!canSay}>${strings.message.sendEdit}</button>
    </div>
  </form>`;
}

/** @param {{part: Part}} properties */
function SaidPart({ part }) {
  switch (part.type) {
    case "image":
      return part.url?.startsWith("data:image/")
        ? html`<img class="attached" src=${part.url} alt=${strings.message.image} />`
        : html`<p class="file"><${Icon} name="file" /> ${part.url ?? part.file_id ?? strings.message.linkedImage}</p>`;
    case "file":
    case "audio":
      return html`<p class="file"><${Icon} name="file" /> <bdi>${part.filename ?? strings.message.file}</bdi></p>`;
    case "tool_result":
      return html`<details><summary>${strings.message.result}</summary><pre>${part.text}</pre></details>`;
    default:
      return html`<${SaidText} text=${part.text ?? ""} />`;
  }
}

/** What was said, folded where it is very long. @param {{text: string}} properties */
function SaidText({ text }) {
  const [whole, setWhole] = useState(text.length <= LONG_CHARACTERS);
  if (whole) return html`<p class="said" dir="auto">${text}</p>`;
  return html`<p class="said" dir="auto">${text.slice(0, LONG_CHARACTERS / 2)} …</p>
    <button type="button" onClick=${() => setWhole(true)}>${strings.message.showAll}</button>`;
}

/** An answer, coming or whole. @param {MessageProperties} properties */
function AnswerView({ chat, conversation, message, last }) {
  const { answer } = message;
  useWatchByFrame(answer);
  const status = answer?.status ?? message.status;
  const parts = answer !== undefined && (answer.parts.length || !message.parts.length) ? answer.parts : message.parts;
  const coming = answer !== undefined && !answer.over;
  const text = parts.filter((part) => part.type === "text").map((part) => part.text).join("");
  return html`<article class="message assistant ${status}" aria-label=${strings.message.assistant} aria-busy=${coming} id=${message.id} tabindex="-1">
    <h2 class="hidden">${strings.message.assistant}</h2>
    ${parts.map((part, index) => html`<${AnswerPart} key=${index} part=${part} open=${coming && index === parts.length - 1} />`)}
    <${Sources} parts=${parts} />
    ${coming ? html`<${Connection} answer=${answer} />` : html`<${Ending} conversation=${conversation} message=${message} status=${status} last=${last} />`}
    ${!coming &&
    html`<footer>
      <${Versions} conversation=${conversation} message=${message} />
      <${Figures} chat=${chat} message=${message} />
      ${text && html`<${CopyButton} text=${text} />`}
      ${!conversation.answering &&
      message.generation_id !== undefined &&
      html`<${IconButton} icon="again" label=${strings.message.regenerate} class="regenerate" onClick=${() => conversation.regenerate(message)} />
        <${IconButton} icon="fork" label=${strings.message.fork} class="fork" onClick=${() => void fork(chat, conversation, message)} />`}
    </footer>`}
    ${last && coming && parts.length > 0 && answer.state === "streaming" && html`<span class="caret" aria-hidden="true"></span>`}
  </article>`;
}

/**
 * @param {Chat} chat
 * @param {Conversation} conversation
 * @param {Shown} message
 */
async function fork(chat, conversation, message) {
  const session = await conversation.fork(message);
  if (session === null) return;
  await chat.sessions.load();
  await chat.openSession(session.session_id);
}

/** @param {{part: Part, open: boolean}} properties */
function AnswerPart({ part, open }) {
  switch (part.type) {
    case "text":
      return html`<${Markdown} text=${part.text ?? ""} ended=${!open} />`;
    case "refusal":
      return html`<p class="refusal" dir="auto"><b>${strings.message.refusal}</b> ${part.text}</p>`;
    case "reasoning":
      return html`<details class="reasoning">
        <summary>${open ? strings.message.reasoningNow : strings.message.reasoning}</summary>
        <${Markdown} text=${part.text ?? ""} ended=${!open} />
      </details>`;
    case "tool_call":
      return html`<details class="call">
        <summary>${strings.message.call(part.name ?? "")}</summary>
        <pre>${part.arguments}</pre>
      </details>`;
    default:
      return null; // annotations are shown together, below
  }
}

/** @param {{text: string, ended: boolean}} properties */
function Markdown({ text, ended }) {
  const box = useRef(/** @type {HTMLDivElement | null} */ (null));
  const shown = useRef(/** @type {StreamingMarkdown | null} */ (null));
  useLayoutEffect(() => {
    if (box.current === null) return;
    shown.current ??= new StreamingMarkdown(box.current);
    shown.current.set(text, ended);
  }, [text, ended]);
  return html`<div class="markdown" ref=${box}></div>`;
}

/** @param {{parts: Part[]}} properties */
function Sources({ parts }) {
  const sources = new Map(parts.flatMap(annotationsIn).flatMap(sourceOf));
  if (sources.size === 0) return null;
  return html`<details class="sources">
    <summary>${strings.message.sources} (${sources.size})</summary>
    <ol>
      ${[...sources].map(
        ([url, title]) => html`<li><a href=${url} target="_blank" rel="noopener noreferrer nofollow" dir="auto">${title}</a></li>`,
      )}
    </ol>
  </details>`;
}

/**
 * The annotations in a part: one as the API lists it, or lines of JSON as it streams them.
 * @param {Part} part
 * @returns {NonNullable<Part["annotation"]>[]}
 */
function annotationsIn(part) {
  if (part.type !== "annotation") return [];
  if (part.annotation !== undefined) return [part.annotation];
  const lines = (part.text ?? "").split("\n").slice(0, -1);
  return lines.map((line) => JSON.parse(line));
}

/**
 * @param {NonNullable<Part["annotation"]>} annotation
 * @returns {[string, string][]} its address and title, if it is one that may be followed
 */
function sourceOf(annotation) {
  const { url, title } = annotation.url_citation ?? annotation;
  return typeof url === "string" && /^https?:\/\//i.test(url) ? [[url, typeof title === "string" ? title : url]] : [];
}

/** How an answer that comes is reached. @param {{answer: Answer}} properties */
function Connection({ answer }) {
  if (answer.stopping) return html`<p class="connection">${strings.message.stopping}</p>`;
  switch (answer.state) {
    case "sending":
      return html`<p class="connection">${strings.message.sending}</p>`;
    case "reconnecting":
      return html`<p class="connection warning" role="status">
        <${Icon} name="warning" /> ${answer.generationId === null ? strings.message.unsent : strings.message.reconnecting}
        <button type="button" onClick=${() => answer.retryNow()}>${strings.message.retryNow}</button>
      </p>`;
    default:
      return answer.parts.length ? null : html`<p class="connection thinking">${strings.message.thinking}</p>`;
  }
}

/** How an answer ended, where that is worth a word. @param {{conversation: Conversation, message: Shown, status: Status, last: boolean}} properties */
function Ending({ conversation, message, status, last }) {
  const { answer } = message;
  if (status === "running")
    return html`<p class="ending warning" role="status">
      <${Icon} name="warning" /> ${strings.message.lost}
      <button type="button" onClick=${() => conversation.rejoin()}>${strings.message.rejoin}</button>
    </p>`;
  const finish = answer?.finishReason ?? message.finish_reason;
  if (status === "completed") {
    const cut = finish === "length" ? strings.message.cutShort : finish === "content_filter" ? strings.message.filtered : "";
    const empty = message.parts.length || answer?.parts.length ? "" : strings.message.nothing;
    return cut || empty ? html`<p class="ending">${cut || empty}</p>` : null;
  }
  const error = answer?.error ?? message.error;
  const bad = status !== "stopped";
  return html`<p class="ending ${bad ? "bad" : ""}" role=${bad && last ? "alert" : undefined}>
    ${bad && html`<${Icon} name="warning" />`}
    <span>${status === "failed" ? `${strings.ended.failed}: ${error?.detail ?? ""}` : strings.ended[status]}</span>
    ${bad &&
    message.generation_id !== undefined &&
    html`<button type="button" disabled=${conversation.answering} onClick=${() => conversation.regenerate(message)}>${strings.message.retry}</button>`}
  </p>`;
}

/** Arrows between the branches that begin here. @param {{conversation: Conversation, message: Shown}} properties */
function Versions({ conversation, message }) {
  const { sibling_ids: siblings } = message;
  if (siblings.length < 2) return null;
  const at = siblings.indexOf(message.id);
  const go = async (/** @type {number} */ step) => {
    const messageId = siblings[at + step];
    if (!(await conversation.switchTo(messageId))) return;
    conversation.seek({ messageId, control: step < 0 ? ".previous" : ".next" });
  };
  return html`<span class="versions">
    <${IconButton} icon="previous" class="previous" label=${strings.message.previous} disabled=${at === 0 || conversation.answering} onClick=${() => go(-1)} />
    <span aria-label=${strings.message.version(at + 1, siblings.length)}>${at + 1}/${siblings.length}</span>
    <${IconButton} icon="next" class="next" label=${strings.message.next} disabled=${at === siblings.length - 1 || conversation.answering} onClick=${() => go(1)} />
  </span>`;
}

/** What an answer took. @param {{chat: Chat, message: Shown}} properties */
function Figures({ chat, message }) {
  const { usage } = message;
  const { first, rate } = pace(message);
  const price = cost(chat.account.prices, message.model, usage);
  const figures = [
    message.model,
    usage && strings.message.tokens(count(usage.input_tokens), count(usage.output_tokens)) + (usage.estimated ? ` (${strings.message.estimated})` : ""),
    price,
    first !== null && strings.message.first(duration(first)),
    rate !== null && strings.message.speed(rate.toFixed(rate < 10 ? 1 : 0)),
  ].filter(Boolean);
  return html`<span class="figures" dir="ltr">
    <time datetime=${message.created_at}>${time(message.created_at)}</time>
    ${figures.map((figure) => html`<span>${figure}</span>`)}
  </span>`;
}

/** @param {{text: string}} properties */
function CopyButton({ text }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    if (!(await copyText(text))) return;
    setCopied(true);
    setTimeout(setCopied, COPIED_MS, false);
  };
  return html`<${IconButton} icon=${copied ? "done" : "copy"} class="copy-message" label=${copied ? strings.copied : strings.copy} onClick=${copy} />`;
}

/**
 * Put a text into the clipboard. Returns whether that went: without https, browsers offer the old way only.
 * @param {string} text
 */
async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const before = document.activeElement;
    const box = document.createElement("textarea");
    box.value = text;
    box.className = "hidden";
    document.body.append(box);
    box.select();
    const went = document.execCommand("copy");
    box.remove();
    if (before instanceof HTMLElement) before.focus();
    return went;
  }
}

