// An answer, while it streams and afterwards: its parts, the state of its connection, and its outcome.
import { failureText, isAboutKey } from "../error-text.js";
import { useWatchByFrame } from "../state/observable.js";
import { drafts } from "../state/storage.js";
import { strings } from "../strings.js";
import { html, useState } from "../vendor/htm-preact.js";
import { EditForm } from "./edit-form.js";
import { Icon, IconButton } from "./icons.js";
import { Markdown } from "./markdown.js";
import { CopyButton, Figures, Versions } from "./message-controls.js";
import { MessageMenu } from "./message-menu.js";
import { ModelButton } from "./model-picker.js";
import { Notice } from "./notice.js";
import { ReadAloudButton } from "./read-aloud.js";
import { Reasoning, Sources, ToolCall } from "./steps.js";

/**
 * @typedef {import("../state/answer.js").Answer} Answer
 * @typedef {import("../types.d.ts").Part} Part
 * @typedef {import("../types.d.ts").Status} Status
 */

const EDITED = "edited"; // the finish reason of an answer that a user has written

/** Why a complete answer ends early. @param {string | null | undefined} finish its finish reason */
function cutText(finish) {
  return { length: strings.message.cutShort, content_filter: strings.message.filtered }[finish ?? ""];
}

/** @param {import("./message.js").MessageProperties} properties */
export function AnswerView({ chat, conversation, message, last, continued }) {
  const { answer } = message;
  useWatchByFrame(answer);
  const [editing, setEditing] = useState(() => drafts.get(message.id) !== "");
  if (editing)
    return html`<article class="message assistant" aria-label=${strings.message.assistant} id=${message.id}>
      <${EditForm} conversation=${conversation} message=${message} onClose=${() => setEditing(false)} />
    </article>`;
  const status = answer?.status ?? message.status;
  const parts = answer !== undefined && (answer.parts.length || !message.parts.length) ? answer.parts : message.parts;
  const running = answer !== undefined && !answer.isOver;
  const live = running && answer.state === "streaming" ? "streaming" : "";
  const thoughtSeconds = answer?.thoughtSeconds ?? message.thoughtSeconds;
  const text = parts.filter((part) => part.type === "text").map((part) => part.text).join("");
  return html`<article class="message assistant ${status} ${live} ${last ? "last" : ""}" aria-label=${strings.message.assistant} aria-busy=${running} id=${message.id} tabindex="-1">
    <h2 class="hidden">${strings.message.assistant}</h2>
    ${parts.map((part, index) => html`<${AnswerPart} key=${index} part=${part} seconds=${thoughtSeconds} open=${running && index === parts.length - 1} />`)}
    <${Sources} parts=${parts} />
    ${running
      ? html`<${Connection} answer=${answer} />`
      : !continued &&
        html`<${Outcome} chat=${chat} conversation=${conversation} message=${message} status=${status} last=${last} />`}
    ${!running &&
    !continued &&
    html`<footer>
      <${Versions} conversation=${conversation} message=${message} />
      ${text && html`<${CopyButton} text=${text} /><${ReadAloudButton} id=${message.id} text=${text} />`}
      ${message.generation_id !== undefined &&
      html`<${IconButton} icon="regenerate" label=${strings.message.regenerate} class="regenerate" disabled=${conversation.isAnswering}
          onClick=${() => conversation.regenerate(message)} />
        <${ModelButton} chat=${chat} current=${message.model ?? ""} label=${strings.message.regenerateWith} class="icon-button slim"
          disabled=${conversation.isAnswering} onChoose=${(/** @type {string} */ model) => void conversation.regenerate(message, model)}>
          <${Icon} name="open" />
        <//>
        <${MessageMenu} chat=${chat} conversation=${conversation} message=${message} onEdit=${text && (() => setEditing(true))} />`}
      ${message.finish_reason === EDITED && html`<span class="edited"><${Icon} name="edit" /> ${strings.message.edited}</span>`}
      <${Figures} chat=${chat} message=${message} />
    </footer>`}
  </article>`;
}

/** @param {{part: Part, seconds: number | null, open: boolean}} properties `open` while more of it may follow */
function AnswerPart({ part, seconds, open }) {
  switch (part.type) {
    case "text":
      return html`<${Markdown} text=${part.text ?? ""} ended=${!open} />`;
    case "refusal":
      return html`<p class="refusal" dir="auto"><b>${strings.message.refusal}</b> ${part.text}</p>`;
    case "reasoning":
      return html`<${Reasoning} part=${part} seconds=${seconds} open=${open} />`;
    case "tool_call":
      return html`<${ToolCall} part=${part} open=${open} />`;
    default:
      return null; // annotations are listed as sources
  }
}

/** The connection of a running answer. @param {{answer: Answer}} properties */
function Connection({ answer }) {
  if (answer.stopping) return html`<p class="connection">${strings.message.stopping}</p>`;
  switch (answer.state) {
    case "sending":
      return html`<p class="connection thinking">${strings.message.sending}</p>`;
    case "reconnecting": {
      const isSent = answer.generationId !== null;
      return html`<${Notice} mild role="status"
        heading=${isSent ? strings.message.reconnecting : strings.message.unsent}
        text=${isSent ? strings.message.reconnectingText : strings.message.unsentText}
        step=${{ label: strings.message.retryNow, act: () => answer.retryNow() }} />`;
    }
    default:
      return answer.parts.length ? null : html`<p class="connection thinking">${strings.message.thinking}</p>`;
  }
}

/** How an answer ended, unless it is complete. @param {import("./message.js").MessageProperties & {status: Status}} properties */
function Outcome({ chat, conversation, message, status, last }) {
  const { answer } = message;
  if (status === "running")
    return html`<${Notice} mild role="status" text=${strings.message.lost}
      step=${{ label: strings.message.reattach, act: () => void conversation.reattach() }} />`;
  const finish = answer?.finishReason ?? message.finish_reason;
  const hasText = message.parts.length > 0 || (answer?.parts.length ?? 0) > 0;
  const canContinue = last && hasText && message.generation_id !== undefined;
  const goOn = { label: strings.message.continue, act: () => void conversation.continueAnswer(), disabled: conversation.isAnswering };
  if (status === "completed" || status === "stopped") {
    const reason = status === "stopped" ? strings.ended.stopped : cutText(finish);
    if (reason === undefined) return hasText ? null : html`<p class="outcome">${strings.message.nothing}</p>`;
    return html`<p class="outcome">
      ${reason} ${canContinue && html`<button type="button" onClick=${goOn.act}><${Icon} name="continue" /> ${goOn.label}</button>`}
    </p>`;
  }
  const error = answer?.error ?? message.error ?? { code: "internal_error", detail: "" };
  const retry = { label: strings.retry, act: () => void conversation.regenerate(message), disabled: conversation.isAnswering };
  const next = message.generation_id === undefined ? null : canContinue ? goOn : retry;
  return html`<${Notice}
    role=${last ? "alert" : null}
    heading=${strings.ended[status]}
    text=${status === "failed" ? failureText(error.code, error.detail, message.retryAfter) : strings.message.interruptedText}
    kept=${hasText ? strings.message.kept : ""}
    wait=${message.retryAfter}
    step=${isAboutKey(error.code) ? { label: strings.key.change, act: () => chat.changeKey() } : next}
  />`;
}
