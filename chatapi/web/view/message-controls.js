// Controls and figures in the footer of a message.
import { copyText } from "../clipboard.js";
import { cost, count, duration, pace, time } from "../format.js";
import { strings } from "../strings.js";
import { html, useState } from "../vendor/htm-preact.js";
import { IconButton } from "./icons.js";

/**
 * @typedef {import("../state/chat.js").Chat} Chat
 * @typedef {import("../state/conversation.js").Conversation} Conversation
 * @typedef {import("../state/turn.js").ShownMessage} ShownMessage
 */

const COPIED_MS = 1500; // how long the button confirms a copy

/** Arrows between the versions of a message. @param {{conversation: Conversation, message: ShownMessage}} properties */
export function Versions({ conversation, message }) {
  const { sibling_ids: siblings } = message;
  if (siblings.length < 2) return null;
  const at = siblings.indexOf(message.id);
  const go = async (/** @type {number} */ step) => {
    const messageId = siblings[at + step];
    if (!(await conversation.switchTo(messageId))) return;
    conversation.scrollTo({ messageId, control: step < 0 ? ".previous" : ".next" });
  };
  const isFirst = at === 0;
  const isLast = at === siblings.length - 1;
  return html`<span class="versions">
    <${IconButton} icon="previous" class="previous" label=${strings.message.previous} disabled=${isFirst || conversation.isAnswering} onClick=${() => go(-1)} />
    <span aria-label=${strings.message.version(at + 1, siblings.length)}>${at + 1}/${siblings.length}</span>
    <${IconButton} icon="next" class="next" label=${strings.message.next} disabled=${isLast || conversation.isAnswering} onClick=${() => go(1)} />
  </span>`;
}

/** Model, tokens, cost and speed of an answer. @param {{chat: Chat, message: ShownMessage}} properties */
export function Figures({ chat, message }) {
  const { usage } = message;
  const { first, rate } = pace(message);
  const tokens = usage && strings.message.tokens(count(usage.input_tokens), count(usage.output_tokens));
  const figures = [
    message.model,
    usage?.estimated ? `${tokens} (${strings.message.estimated})` : tokens,
    cost(chat.account.prices, message.model, usage),
    first !== null && strings.message.first(duration(first)),
    rate !== null && strings.message.speed(rate.toFixed(rate < 10 ? 1 : 0)),
  ].filter(Boolean);
  return html`<span class="figures" dir="ltr">
    <time datetime=${message.created_at}>${time(message.created_at)}</time>
    ${figures.map((figure) => html`<span>${figure}</span>`)}
  </span>`;
}

/** @param {{text: string}} properties */
export function CopyButton({ text }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    if (!(await copyText(text))) return;
    setCopied(true);
    setTimeout(setCopied, COPIED_MS, false);
  };
  return html`<${IconButton} icon=${copied ? "done" : "copy"} class="copy-message" label=${copied ? strings.copied : strings.copy} onClick=${copy} />`;
}
