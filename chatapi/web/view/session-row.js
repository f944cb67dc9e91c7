// One session in the sidebar: its link, its menu, and the field that renames it.
import { hasFlag } from "../state/sessions.js";
import { strings } from "../strings.js";
import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { isComposing } from "./composition.js";
import { Menu } from "./menu.js";
import { exportSession } from "./transfer.js";

/**
 * @typedef {import("../state/chat.js").Chat} Chat
 * @typedef {import("../types.d.ts").Session} Session
 */

/**
 * @param {{chat: Chat, session: Session, current: boolean, answering: boolean, chosen: boolean | null, onOpen: () => void,
 *   onShare: () => void, onMove: () => void, onChoose: () => void}} properties `chosen` is null unless several are chosen
 */
export function SessionRow({ chat, session, current, answering, chosen, onOpen, onShare, onMove, onChoose }) {
  /** The text of the field while the session is being renamed. */
  const [renaming, setRenaming] = useState(/** @type {string | null} */ (null));
  const row = useRef(/** @type {HTMLLIElement | null} */ (null));
  const wasRenaming = useRef(false);
  useEffect(() => {
    // After a key closed the field, the focus returns to the menu button.
    const isLost = document.activeElement === document.body;
    if (wasRenaming.current && renaming === null && isLost) row.current?.querySelector("button")?.focus();
    wasRenaming.current = renaming !== null;
  }, [renaming]);
  useEffect(() => {
    if (current) row.current?.scrollIntoView({ block: "nearest" });
  }, [current]);
  const title = session.title ?? strings.sessions.untitled;
  if (renaming !== null) {
    const rename = async (/** @type {string} */ text) => {
      setRenaming(null);
      if (text.trim() === (session.title ?? "")) return;
      if (!(await chat.sessions.rename(session.session_id, text.trim()))) setRenaming(text);
    };
    return html`<li ref=${row}><${TitleField} title=${renaming} onDone=${rename} onCancel=${() => setRenaming(null)} /></li>`;
  }
  if (chosen !== null)
    return html`<li ref=${row}>
      <label class="pick"><input type="checkbox" checked=${chosen} onChange=${onChoose} /> <span dir="auto">${title}</span></label>
    </li>`;
  const remove = () => {
    const { nextElementSibling, previousElementSibling } = row.current ?? {};
    const neighbour = (nextElementSibling ?? previousElementSibling)?.querySelector("a") ?? document.getElementById("new-chat");
    neighbour?.focus();
    chat.deleteSessions([session.session_id]);
  };
  const [isPinned, isArchived] = [hasFlag(session, "pinned"), hasFlag(session, "archived")];
  return html`<li ref=${row} class=${current ? "current" : ""}>
    <a
      href="#/${session.session_id}"
      dir="auto"
      aria-current=${current ? "page" : undefined}
      onClick=${(/** @type {MouseEvent} */ event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return; // opens in a new tab or window
        event.preventDefault();
        onOpen();
      }}
    >${title}${answering && html` <span class="dot" role="img" aria-label=${strings.sessions.answering}></span>`}</a>
    <${Menu}
      label=${strings.sessions.actions(title)}
      items=${[
        { label: isPinned ? strings.sessions.unpin : strings.sessions.pin, icon: isPinned ? "unpin" : "pin", act: () => void chat.toggleFlag(session, "pinned") },
        { label: strings.sessions.rename, icon: "edit", act: () => setRenaming(session.title ?? "") },
        { label: strings.folders.move, icon: "folder", act: onMove },
        { label: strings.share.menu, icon: "share", act: onShare },
        { label: strings.sessions.exportMarkdown, icon: "export", act: () => exportSession(chat, session.session_id, "markdown") },
        { label: strings.sessions.exportJson, icon: "export", act: () => exportSession(chat, session.session_id, "json") },
        null,
        { label: strings.sessions.choose, icon: "choose", act: onChoose },
        { label: isArchived ? strings.sessions.unarchive : strings.sessions.archive, icon: "archive", act: () => void chat.toggleFlag(session, "archived") },
        { label: strings.sessions.delete, icon: "delete", danger: true, act: remove },
      ]}
    />
  </li>`;
}

/**
 * @param {{title: string, onDone: (title: string) => void, onCancel: () => void}} properties
 */
function TitleField({ title, onDone, onCancel }) {
  const input = useRef(/** @type {HTMLInputElement | null} */ (null));
  const isClosed = useRef(false); // when the field is removed, it sends another blur
  useEffect(() => {
    input.current?.focus();
    input.current?.select();
  }, []);
  const close = (/** @type {boolean} */ save) => {
    if (isClosed.current) return;
    isClosed.current = true;
    if (save) onDone(input.current?.value ?? title);
    else onCancel();
  };
  const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
    if (isComposing(event)) return;
    if (event.key === "Enter") close(true);
    if (event.key === "Escape") close(false);
    event.stopPropagation();
  };
  return html`<input
    ref=${input}
    class="rename"
    dir="auto"
    maxlength="200"
    aria-label=${strings.sessions.titleOf}
    value=${title}
    onKeyDown=${onKeyDown}
    onBlur=${() => close(true)}
  />`;
}
