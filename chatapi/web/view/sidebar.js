// The sidebar: the list of sessions, and the entries to search, usage, import, theme and key.
import { errorText } from "../error-text.js";
import { useWatch } from "../state/observable.js";
import { setTheme, theme } from "../state/storage.js";
import { strings } from "../strings.js";
import { html, useRef, useState } from "../vendor/htm-preact.js";
import { Icon, IconButton } from "./icons.js";
import { SessionRow } from "./session-row.js";
import { importSession } from "./transfer.js";

/**
 * @typedef {import("../state/chat.js").Chat} Chat
 * @typedef {import("../types.d.ts").Session} Session
 */

/** @param {{chat: Chat, onSearch: () => void, onHelp: () => void, onOpen: () => void}} properties */
export function Sidebar({ chat, onSearch, onHelp, onOpen }) {
  const { sessions, conversation, account } = chat;
  useWatch(sessions, conversation);
  const file = useRef(/** @type {HTMLInputElement | null} */ (null));
  const open = (/** @type {string | null} */ id) => {
    onOpen();
    void chat.openSession(id);
  };
  const onFile = () => {
    const chosen = file.current?.files?.[0];
    if (chosen) void importSession(chat, chosen);
    if (file.current) file.current.value = "";
  };

  return html`<nav class="sidebar" aria-label=${strings.sessions.heading}>
    <div class="sidebar-top">
      <button type="button" id="new-chat" class="wide" onClick=${() => open(null)}>
        <${Icon} name="plus" /> ${strings.sessions.newChat}
      </button>
      <button type="button" class="wide plain" onClick=${onSearch}>
        <${Icon} name="search" /> ${strings.sessions.search} <kbd>${strings.sessions.searchKeys}</kbd>
      </button>
    </div>
    <div class="session-list">
      ${sessions.error !== null &&
      !isShownInBanner(chat, sessions.error) &&
      html`<div class="notice" role="alert">
        ${errorText(sessions.error)}
        <button type="button" onClick=${() => sessions.load()}>${strings.retry}</button>
      </div>`}
      ${sessions.loaded && sessions.list.length === 0 && html`<p class="hint">${strings.sessions.none}</p>`}
      ${byAge(sessions.list).map(
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
              />`,
            )}
          </ul>
        </section>`,
      )}
      ${sessions.nextCursor !== null &&
      html`<button type="button" class="plain wide" onClick=${() => sessions.loadMore()}>${strings.sessions.more}</button>`}
    </div>
    <div class="sidebar-bottom">
      <a class="wide plain button" href="#/usage" onClick=${onOpen}><${Icon} name="usage" /> ${strings.sessions.usage}</a>
      <button type="button" class="wide plain" onClick=${() => file.current?.click()}>
        <${Icon} name="import" /> ${strings.sessions.import}
      </button>
      <input ref=${file} type="file" accept="application/json,.json" hidden onChange=${onFile} />
      <div class="row">
        <${ThemeSelect} />
        <${IconButton} icon="help" label=${strings.help.open} shortcut="?" onClick=${onHelp} />
        <${IconButton} icon="key" label=${account.config?.demo ? strings.key.change : strings.key.forget} onClick=${() => (account.config?.demo ? chat.changeKey() : chat.signOut())} />
      </div>
    </div>
  </nav>`;
}

/** Whether the conversation shows the same error, with a button that reloads both. @param {Chat} chat @param {Error} error */
function isShownInBanner({ view, conversation }, error) {
  return view === "chat" && conversation.error !== null && errorText(conversation.error) === errorText(error);
}

function ThemeSelect() {
  const [chosen, setChosen] = useState(theme());
  const onChange = (/** @type {Event} */ event) => {
    const { value } = /** @type {HTMLSelectElement} */ (event.target);
    const selected = /** @type {import("../state/storage.js").Theme} */ (value);
    setTheme(selected);
    setChosen(selected);
  };
  return html`<select class="theme" aria-label=${strings.theme.label} value=${chosen} onChange=${onChange}>
    <option value="system">${strings.theme.system}</option>
    <option value="light">${strings.theme.light}</option>
    <option value="dark">${strings.theme.dark}</option>
  </select>`;
}

/**
 * Group sessions by age, in the order of the list.
 * @param {Session[]} list
 * @returns {[string, Session[]][]}
 */
function byAge(list) {
  const today = new Date().setHours(0, 0, 0, 0);
  const day = 86_400_000;
  /** @type {Map<string, Session[]>} */
  const groups = new Map();
  for (const session of list) {
    const used = Date.parse(session.last_updated);
    const { today: t, yesterday: y, week: w, older: o } = strings.sessions;
    const age = used >= today ? t : used >= today - day ? y : used >= today - 7 * day ? w : o;
    groups.set(age, [...(groups.get(age) ?? []), session]);
  }
  return [...groups];
}
