// The menu of a message: a new chat from it, and its deletion.
import { strings } from "../strings.js";
import { html, useState } from "../vendor/htm-preact.js";
import { Confirm } from "./confirm.js";
import { Menu } from "./menu.js";

/** @param {import("./message.js").MessageProperties & {onEdit?: (() => void) | ""}} properties `onEdit` of an answer with text */
export function MessageMenu({ chat, conversation, message, onEdit }) {
  const [isAsking, setAsking] = useState(false);
  const isQuestion = message.role === "user";
  // An answer belongs to its question. The answer itself can be deleted alone.
  const { shown } = conversation;
  const next = shown[shown.findIndex((one) => one.id === message.id) + 1];
  const deleted = isQuestion && next?.role === "assistant" ? [next, message] : [message];
  /** @type {import("./menu.js").MenuItem[]} */
  const items = [
    ...(onEdit ? [/** @type {import("./menu.js").MenuItem} */ ({ label: strings.message.edit, icon: "edit", act: onEdit })] : []),
    { label: strings.message.fork, icon: "branch", act: () => void chat.forkSession(message) },
    { label: strings.sessions.delete, icon: "delete", danger: true, act: () => setAsking(true) },
  ];
  return html`<${Menu} label=${strings.message.more} items=${items} disabled=${conversation.isAnswering} />
    ${isAsking &&
    html`<${Confirm}
      heading=${strings.message.deleteHeading}
      text=${deleted.length > 1 ? strings.message.deleteTurn : strings.message.deleteText}
      action=${strings.sessions.delete}
      onConfirm=${() => void conversation.deleteMessages(deleted)}
      onClose=${() => setAsking(false)}
    />`}`;
}
