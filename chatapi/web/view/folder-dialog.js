// The dialog that moves chats to a folder.
import { folderOf } from "../state/sessions.js";
import { strings } from "../strings.js";
import { html, useState } from "../vendor/htm-preact.js";
import { Dialog } from "./dialog.js";
import { Icon } from "./icons.js";

const MAX_CHARACTERS = 60;

/** @param {{chat: import("../state/chat.js").Chat, ids: string[], onClose: () => void}} properties `ids` of the chats to move */
export function FolderDialog({ chat, ids, onClose }) {
  const [name, setName] = useState("");
  const texts = strings.folders;
  const isFiled = chat.sessions.list.some((session) => ids.includes(session.session_id) && folderOf(session) !== "");
  const move = (/** @type {string} */ folder) => {
    onClose();
    void chat.moveSessions(ids, folder);
  };
  const onSubmit = (/** @type {Event} */ event) => {
    event.preventDefault();
    if (name.trim() !== "") move(name.trim());
  };
  return html`<${Dialog} heading=${texts.move} onClose=${onClose} class="folders">
    ${chat.sessions.folders.map(
      (folder) => html`<button type="button" class="wide plain" onClick=${() => move(folder)}><${Icon} name="folder" /> <bdi>${folder}</bdi></button>`,
    )}
    ${isFiled &&
    html`<button type="button" class="wide plain" onClick=${() => move("")}><${Icon} name="close" /> ${texts.none}</button>`}
    <form onSubmit=${onSubmit}>
      <input dir="auto" maxlength=${MAX_CHARACTERS} placeholder=${texts.name} aria-label=${texts.name} value=${name}
        onInput=${(/** @type {Event} */ { target }) => setName(/** @type {HTMLInputElement} */ (target).value)} />
      <button type="submit" class="primary" disabled=${name.trim() === ""}>${texts.create}</button>
    </form>
  <//>`;
}
