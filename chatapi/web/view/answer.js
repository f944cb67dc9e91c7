// An answer, while it streams and afterwards: its parts, the state of its connection, and its outcome.
import { failureText, isAboutKey } from "../error-text.js";
import { StreamingMarkdown } from "../markdown/streaming.js";
import { useWatchByFrame } from "../state/observable.js";
import { strings } from "../strings.js";
import { html, useLayoutEffect, useRef } from "../vendor/htm-preact.js";
import { Icon, IconButton } from "./icons.js";
import { CopyButton, Figures, Versions } from "./message-controls.js";

/**
 * @typedef {import("../state/answer.js").Answer} Answer
 * @typedef {import("../types.d.ts").Part} Part
 * @typedef {import("../types.d.ts").Status} Status
 */

/** @param {import("./message.js").MessageProperties} properties */
export function AnswerView({ chat, conversation, message, last }) {
  const { answer } = message;
  useWatchByFrame(answer);
  const status = answer?.status ?? message.status;
  const parts = answer !== undefined && (answer.parts.length || !message.parts.length) ? answer.parts : message.parts;
  const running = answer !== undefined && !answer.isOver;
  const text = parts.filter((part) => part.type === "text").map((part) => part.text).join("");
  return html`<article class="message assistant ${status}" aria-label=${strings.message.assistant} aria-busy=${running} id=${message.id} tabindex="-1">
    <h2 class="hidden">${strings.message.assistant}</h2>
    ${parts.map((part, index) => html`<${AnswerPart} key=${index} part=${part} open=${running && index === parts.length - 1} />`)}
    <${Sources} parts=${parts} />
    ${running
      ? html`<${Connection} answer=${answer} />`
      : html`<${Outcome} chat=${chat} conversation=${conversation} message=${message} status=${status} last=${last} />`}
    ${!running &&
    html`<footer>
      <${Versions} conversation=${conversation} message=${message} />
      <${Figures} chat=${chat} message=${message} />
      ${text && html`<${CopyButton} text=${text} />`}
      ${!conversation.isAnswering &&
      message.generation_id !== undefined &&
      html`<${IconButton} icon="again" label=${strings.message.regenerate} class="regenerate" onClick=${() => conversation.regenerate(message)} />
        <${IconButton} icon="fork" label=${strings.message.fork} class="fork" onClick=${() => chat.forkSession(message)} />`}
    </footer>`}
    ${last && running && parts.length > 0 && answer.state === "streaming" && html`<span class="caret" aria-hidden="true"></span>`}
  </article>`;
}

/** @param {{part: Part, open: boolean}} properties `open` while more of it may follow */
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
      return null; // annotations are listed as sources
  }
}

/** @param {{text: string, ended: boolean}} properties */
function Markdown({ text, ended }) {
  const box = useRef(/** @type {HTMLDivElement | null} */ (null));
  const markdown = useRef(/** @type {StreamingMarkdown | null} */ (null));
  useLayoutEffect(() => {
    if (box.current === null) return;
    markdown.current ??= new StreamingMarkdown(box.current);
    markdown.current.set(text, ended);
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
 * The annotations in a part: an object as the API lists them, or lines of JSON as the stream sends them.
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
 * @returns {[string, string][]} address and title; nothing unless the address is http or https
 */
function sourceOf(annotation) {
  const { url, title } = annotation.url_citation ?? annotation;
  return typeof url === "string" && /^https?:\/\//i.test(url) ? [[url, typeof title === "string" ? title : url]] : [];
}

/** The connection of a running answer. @param {{answer: Answer}} properties */
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

/** How an answer ended, unless it is complete. @param {import("./message.js").MessageProperties & {status: Status}} properties */
function Outcome({ chat, conversation, message, status, last }) {
  const { answer } = message;
  if (status === "running")
    return html`<p class="outcome warning" role="status">
      <${Icon} name="warning" /> ${strings.message.lost}
      <button type="button" onClick=${() => conversation.reattach()}>${strings.message.reattach}</button>
    </p>`;
  const finish = answer?.finishReason ?? message.finish_reason;
  if (status === "completed") {
    const cut = finish === "length" ? strings.message.cutShort : finish === "content_filter" ? strings.message.filtered : "";
    const empty = message.parts.length || answer?.parts.length ? "" : strings.message.nothing;
    return cut || empty ? html`<p class="outcome">${cut || empty}</p>` : null;
  }
  const error = answer?.error ?? message.error ?? { code: "internal_error", detail: "" };
  const isFailure = status !== "stopped";
  const text = status === "failed" ? failureText(error.code, error.detail, message.retryAfter) : strings.ended[status];
  return html`<p class="outcome ${isFailure ? "bad" : ""}" role=${isFailure && last ? "alert" : undefined}>
    ${isFailure && html`<${Icon} name="warning" />`}
    <span>${status === "failed" ? `${strings.ended.failed}: ${text}` : text}</span>
    ${isFailure && isAboutKey(error.code) && html`<button type="button" onClick=${() => chat.changeKey()}>${strings.key.change}</button>`}
    ${isFailure &&
    !isAboutKey(error.code) &&
    message.generation_id !== undefined &&
    html`<button type="button" disabled=${conversation.isAnswering} onClick=${() => conversation.regenerate(message)}>${strings.message.retry}</button>`}
  </p>`;
}
