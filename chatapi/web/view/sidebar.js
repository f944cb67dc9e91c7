// The sidebar: the list of sessions, and the entries to search and settings.
import { errorText } from "../error-text.js";
import { useWatch } from "../state/observable.js";
import { hasFlag } from "../state/sessions.js";
import { strings } from "../strings.js";
import { html, useState } from "../vendor/htm-preact.js";
import { Icon, IconButton } from "./icons.js";
import { Notice } from "./notice.js";
import { SessionRow } from "./session-row.js";

const ICON = /** @type {HTMLLinkElement} */ (document.querySelector("link[rel=icon]")).href;

/**
 * @typedef {import("../state/chat.js").Chat} Chat
 * @typedef {import("../types.d.ts").Session} Session
 */

/**
 * @param {{chat: Chat, onSearch: () => void, onSettings: () => void, onFold: () => void, onOpen: () => void,
 *   onShare: (sessionId: string) => void}} properties
 */
export function Sidebar({ chat, onSearch, onSettings, onFold, onOpen, onShare }) {
  const { sessions, conversation } = chat;
  useWatch(sessions, conversation);
  const [isArchive, setArchive] = useState(false); // whether the archived sessions are shown
  const hasArchive = sessions.list.some((session) => hasFlag(session, "archived"));
  const shown = sessions.list.filter((session) => hasFlag(session, "archived") === (isArchive && hasArchive));
  const open = (/** @type {string | null} */ id) => {
    onOpen();
    void chat.openSession(id);
  };

  return html`<nav class="sidebar" aria-label=${strings.sessions.heading}>
    <div class="sidebar-head">
      <span class="brand"><img src=${ICON} alt="" />${strings.name}</span>
      <${IconButton} icon="sidebar" label=${strings.foldSidebar} shortcut="Ctrl B" onClick=${onFold} />
    </div>
    <div class="sidebar-top">
      <button type="button" id="new-chat" class="wide plain" onClick=${() => open(null)}>
        <${Icon} name="compose" /> ${strings.sessions.newChat}
      </button>
      <button type="button" class="wide plain" onClick=${onSearch}>
        <${Icon} name="search" /> ${strings.sessions.search} <kbd>${strings.sessions.searchKeys}</kbd>
      </button>
    </div>
    <div class="session-list">
      ${sessions.error !== null &&
      !isShownInBanner(chat, sessions.error) &&
      html`<${Notice} text=${errorText(sessions.error)} step=${{ label: strings.retry, act: () => void sessions.load() }} />`}
      ${sessions.loaded && sessions.list.length === 0 && html`<p class="hint">${strings.sessions.none}</p>`}
      ${groupsOf(shown).map(
        ([age, list]) => html`<section key=${age}>
          <h2>${age}</h2>
          <ul>
            ${list.map(
              (session) => html`<${SessionRow}
                key=${session.session_id}
                chat=${chat}
                session=${session}
                current=${chat.view === "chat" && session.session_id === conversation.id}
                answering=${chat.isAnswering(session.session_id)}
                onOpen=${() => open(session.session_id)}
                onShare=${() => onShare(session.session_id)}
              />`,
            )}
          </ul>
        </section>`,
      )}
      ${hasArchive &&
      html`<button type="button" class="plain wide" aria-pressed=${isArchive} onClick=${() => setArchive(!isArchive)}>
        <${Icon} name="archive" /> ${isArchive ? strings.sessions.leaveArchive : strings.sessions.openArchive}
      </button>`}
      ${sessions.nextCursor !== null &&
      html`<button type="button" class="plain wide" onClick=${() => sessions.loadMore()}>${strings.sessions.more}</button>`}
    </div>
    <div class="sidebar-bottom">
      <button type="button" class="wide plain" onClick=${onSettings}><${Icon} name="settings" /> ${strings.preferences.heading}</button>
    </div>
  </nav>`;
}

/** Whether the conversation shows the same error, with a button that reloads both. @param {Chat} chat @param {Error} error */
function isShownInBanner({ view, conversation }, error) {
  return view === "chat" && conversation.error !== null && errorText(conversation.error) === errorText(error);
}

/**
 * Group sessions: the pinned ones, then by age, in the order of the list.
 * @param {Session[]} list
 * @returns {[string, Session[]][]}
 */
function groupsOf(list) {
  const today = new Date().setHours(0, 0, 0, 0);
  const day = 86_400_000;
  /** @type {Map<string, Session[]>} */
  const groups = new Map();
  const pinned = list.filter((session) => hasFlag(session, "pinned"));
  if (pinned.length > 0) groups.set(strings.sessions.pinned, pinned);
  for (const session of list.filter((session) => !hasFlag(session, "pinned"))) {
    const used = Date.parse(session.last_updated);
    const { today: t, yesterday: y, week: w, older: o } = strings.sessions;
    const age = used >= today ? t : used >= today - day ? y : used >= today - 7 * day ? w : o;
    groups.set(age, [...(groups.get(age) ?? []), session]);
  }
  return [...groups];
}
