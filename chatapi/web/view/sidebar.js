// The sidebar: the list of sessions, and the entries to search and settings.
import { errorText } from "../error-text.js";
import { useWatch } from "../state/observable.js";
import { folderOf, hasFlag } from "../state/sessions.js";
import { closedFolders, toggleFolder } from "../state/storage.js";
import { strings } from "../strings.js";
import { html, useState } from "../vendor/htm-preact.js";
import { FolderDialog } from "./folder-dialog.js";
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
  const [chosen, setChosen] = useState(/** @type {Set<string> | null} */ (null)); // while several are chosen
  const [moved, setMoved] = useState(/** @type {string[] | null} */ (null)); // the sessions whose folder is asked for
  const [closed, setClosed] = useState(closedFolders());
  const choose = (/** @type {string} */ id) => {
    const changed = new Set(chosen);
    if (!changed.delete(id)) changed.add(id);
    setChosen(changed);
  };
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
    ${chosen !== null &&
    html`<${Selection} chat=${chat} sessions=${shown.filter((session) => chosen.has(session.session_id))}
      onMove=${setMoved} onClose=${() => setChosen(null)} />`}
    ${moved !== null && html`<${FolderDialog} chat=${chat} ids=${moved} onClose=${() => [setMoved(null), setChosen(null)]} />`}
    <div class="session-list">
      ${sessions.error !== null &&
      !isShownInBanner(chat, sessions.error) &&
      html`<${Notice} text=${errorText(sessions.error)} step=${{ label: strings.retry, act: () => void sessions.load() }} />`}
      ${sessions.loaded && sessions.list.length === 0 && html`<p class="hint">${strings.sessions.none}</p>`}
      ${groupsOf(shown).map(
        ({ key, heading, isFolder, list }) => html`<section key=${key}>
          <h2>
            ${isFolder
              ? html`<button type="button" class="plain" dir="auto" aria-expanded=${!closed.has(heading)} onClick=${() => setClosed(toggleFolder(heading))}>
                  <${Icon} name="folder" /> ${heading} <${Icon} name="open" />
                </button>`
              : heading}
          </h2>
          <ul hidden=${isFolder && closed.has(heading)}>
            ${list.map(
              (session) => html`<${SessionRow}
                key=${session.session_id}
                chat=${chat}
                session=${session}
                current=${chat.view === "chat" && session.session_id === conversation.id}
                answering=${chat.isAnswering(session.session_id)}
                onOpen=${() => open(session.session_id)}
                onShare=${() => onShare(session.session_id)}
                chosen=${chosen === null ? null : chosen.has(session.session_id)}
                onMove=${() => setMoved([session.session_id])}
                onChoose=${() => choose(session.session_id)}
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
 * Actions on the chosen sessions.
 * @param {{chat: Chat, sessions: Session[], onMove: (ids: string[]) => void, onClose: () => void}} properties
 */
function Selection({ chat, sessions, onMove, onClose }) {
  const ids = sessions.map((session) => session.session_id);
  const isEmpty = ids.length === 0;
  const archive = async () => {
    onClose();
    for (const session of sessions) await chat.toggleFlag(session, "archived");
  };
  const isArchived = sessions.some((session) => hasFlag(session, "archived"));
  return html`<div class="selection" role="toolbar" aria-label=${strings.sessions.choose}>
    <span role="status">${strings.sessions.chosen(ids.length)}</span>
    <${IconButton} icon="folder" label=${strings.folders.move} disabled=${isEmpty} onClick=${() => onMove(ids)} />
    <${IconButton} icon="archive" label=${isArchived ? strings.sessions.unarchive : strings.sessions.archive} disabled=${isEmpty} onClick=${archive} />
    <${IconButton} icon="delete" label=${strings.sessions.delete} disabled=${isEmpty} onClick=${() => [onClose(), chat.deleteSessions(ids)]} />
    <${IconButton} icon="close" label=${strings.cancel} onClick=${onClose} />
  </div>`;
}

/**
 * Group sessions: the pinned ones, then those in folders, then by age, in the order of the list.
 * @param {Session[]} list
 * @returns {{key: string, heading: string, isFolder: boolean, list: Session[]}[]}
 */
function groupsOf(list) {
  const today = new Date().setHours(0, 0, 0, 0);
  const day = 86_400_000;
  /** @type {Map<string, Session[]>} */
  const groups = new Map();
  /** @type {Map<string, Session[]>} */
  const folders = new Map();
  const pinned = list.filter((session) => hasFlag(session, "pinned"));
  if (pinned.length > 0) groups.set(strings.sessions.pinned, pinned);
  for (const session of list.filter((session) => !hasFlag(session, "pinned"))) {
    const folder = folderOf(session);
    if (folder !== "") {
      folders.set(folder, [...(folders.get(folder) ?? []), session]);
      continue;
    }
    const used = Date.parse(session.last_updated);
    const { today: t, yesterday: y, week: w, older: o } = strings.sessions;
    const age = used >= today ? t : used >= today - day ? y : used >= today - 7 * day ? w : o;
    groups.set(age, [...(groups.get(age) ?? []), session]);
  }
  const ages = [...groups].map(([heading, of]) => ({ key: heading, heading, isFolder: false, list: of }));
  const sorted = [...folders].sort(([one], [other]) => one.localeCompare(other));
  const named = sorted.map(([heading, of]) => ({ key: `folder ${heading}`, heading, isFolder: true, list: of }));
  const first = pinned.length > 0 ? 1 : 0;
  return [...ages.slice(0, first), ...named, ...ages.slice(first)];
}
