// Controls and figures in the footer of a message.
import { copyText } from "../clipboard.js";
import { cost, count, duration, pace, time } from "../format.js";
import { strings } from "../strings.js";
import { html, useState } from "../vendor/htm-preact.js";
import { Icon, IconButton } from "./icons.js";
import { useId } from "./id.js";

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

/** The model of an answer, which expands to tokens, cost and speed. @param {{chat: Chat, message: ShownMessage}} properties */
export function Figures({ chat, message }) {
  const [open, setOpen] = useState(false);
  const id = useId();
  const { usage } = message;
  const { first, rate } = pace(message);
  const price = cost(chat.account.prices, message.model, usage);
  const { figures } = strings.message;
  /** @type {[string, string | null][]} */
  const rows = [
    [figures.time, time(message.created_at)],
    [figures.model, message.model],
    [figures.tokens, usage && strings.message.tokens(count(usage.input_tokens), count(usage.output_tokens), usage.estimated)],
    [figures.cost, price],
    [figures.first, first === null ? null : duration(first)],
    [figures.speed, rate === null ? null : strings.message.speed(rate.toFixed(rate < 10 ? 1 : 0))],
  ];
  return html`<button type="button" class="chip" title=${strings.message.details} aria-expanded=${open} aria-controls=${id}
      onClick=${() => setOpen(!open)}>
      <bdi>${message.model ?? time(message.created_at)}</bdi><${Icon} name="open" />
    </button>
    <dl class="figures" id=${id} hidden=${!open}>
      ${rows.map(([name, value]) => value && html`<div><dt>${name}</dt><dd><bdi>${value}</bdi></dd></div>`)}
    </dl>`;
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
