// A message: a user's message, an answer, or the result of a tool.
import { drafts } from "../state/storage.js";
import { CONTINUE_REQUEST, isStored } from "../state/turn.js";
import { strings } from "../strings.js";
import { html, useState } from "../vendor/htm-preact.js";
import { time } from "../format.js";
import { AnswerView } from "./answer.js";
import { EditForm } from "./edit-form.js";
import { Icon, IconButton } from "./icons.js";
import { CopyButton, Versions } from "./message-controls.js";
import { MessageMenu } from "./message-menu.js";
import { Step } from "./steps.js";

/**
 * @typedef {import("../state/chat.js").Chat} Chat
 * @typedef {import("../state/conversation.js").Conversation} Conversation
 * @typedef {import("../state/turn.js").ShownMessage} ShownMessage
 * @typedef {import("../types.d.ts").Part} Part
 */

const MAX_UNFOLDED_CHARACTERS = 6000; // of one part; a longer one is folded

/**
 * @typedef {object} MessageProperties
 * @property {Chat} chat
 * @property {Conversation} conversation
 * @property {ShownMessage} message
 * @property {boolean} last
 * @property {boolean} [continued] whether the next message continues this answer
 */

/** @param {MessageProperties} properties */
export function MessageView({ chat, conversation, message, last, continued }) {
  if (message.role === "assistant")
    return html`<${AnswerView} chat=${chat} conversation=${conversation} message=${message} last=${last} continued=${continued} />`;
  if (isContinuation(message))
    return html`<div class="joint" id=${message.id}><span>${strings.message.continued}</span></div>`;
  return html`<${InputView} chat=${chat} conversation=${conversation} message=${message} last=${last} />`;
}

/** Whether a message only asks for the rest of the answer before it. @param {ShownMessage | undefined} message */
export function isContinuation(message) {
  return message?.role === "user" && message.content === CONTINUE_REQUEST;
}

/** A message that is not an answer. @param {MessageProperties} properties */
function InputView({ chat, conversation, message, last }) {
  const [editing, setEditing] = useState(() => drafts.get(message.id) !== "");
  const isUser = message.role === "user";
  const name = strings.message[isUser ? "user" : message.role === "tool" ? "tool" : "system"];
  if (editing) {
    return html`<article class="message user" aria-label=${name} id=${message.id}>
      <${EditForm} conversation=${conversation} message=${message} onClose=${() => setEditing(false)} />
    </article>`;
  }
  if (message.role === "tool")
    return html`<article class="message tool" aria-label=${name} id=${message.id} tabindex="-1">
      <h2 class="hidden">${name}</h2>
      ${message.parts.map((part, index) => html`<${InputPart} key=${index} part=${part} />`)}
    </article>`;
  return html`<article class="message ${message.role} ${last ? "last" : ""}" aria-label=${name} id=${message.id} tabindex="-1">
    <h2 class="hidden">${name}</h2>
    <div class="bubble">
      ${message.parts.map((part, index) => html`<${InputPart} key=${index} part=${part} />`)}
    </div>
    <footer>
      <time datetime=${message.created_at}>${time(message.created_at)}</time>
      <${CopyButton} text=${message.content} />
      ${isUser &&
      isStored(message) &&
      html`<${IconButton}
        icon="edit"
        label=${strings.message.edit}
        class="edit"
        disabled=${conversation.isAnswering}
        onClick=${() => setEditing(true)}
      />
      <${MessageMenu} chat=${chat} conversation=${conversation} message=${message} last=${last} />`}
      <${Versions} conversation=${conversation} message=${message} />
    </footer>
  </article>`;
}

/** @param {{part: Part}} properties */
export function InputPart({ part }) {
  switch (part.type) {
    case "image":
      return part.url?.startsWith("data:image/")
        ? html`<img class="attached" src=${part.url} alt=${strings.message.image} />`
        : html`<p class="file"><${Icon} name="file" /> ${part.url ?? part.file_id ?? strings.message.linkedImage}</p>`;
    case "file":
    case "audio":
      return html`<p class="file"><${Icon} name="file" /> <bdi>${part.filename ?? strings.message.file}</bdi></p>`;
    case "tool_result":
      return html`<${Step} icon="tool" class="result" label=${part.name ? html`${strings.message.result} <bdi>${part.name}</bdi>` : strings.message.result}>
        <pre>${part.text}</pre>
      <//>`;
    default:
      return html`<${InputText} text=${part.text ?? ""} />`;
  }
}

/** @param {{text: string}} properties */
function InputText({ text }) {
  const [unfolded, setUnfolded] = useState(text.length <= MAX_UNFOLDED_CHARACTERS);
  if (unfolded) return html`<p class="input-text" dir="auto">${text}</p>`;
  return html`<p class="input-text" dir="auto">${text.slice(0, MAX_UNFOLDED_CHARACTERS / 2)} …</p>
    <button type="button" onClick=${() => setUnfolded(true)}>${strings.message.showAll}</button>`;
}
