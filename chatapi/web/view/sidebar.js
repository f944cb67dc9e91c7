// The list of chats, and the ways to everything else.
import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { sentence } from "../chat.js";
import { useWatch } from "../observable.js";
import { setTheme, theme } from "../storage.js";
import { strings } from "../strings.js";
import { Icon, IconButton } from "./icons.js";
import { useId } from "./id.js";

/**
 * @typedef {import("../chat.js").Chat} Chat
 * @typedef {import("../types.d.ts").Session} Session
 */

/** @param {{chat: Chat, onSearch: () => void, onHelp: () => void, onLeave: () => void}} properties */
export function Sidebar({ chat, onSearch, onHelp, onLeave }) {
  const { sessions, conversation, account } = chat;
  useWatch(sessions, conversation);
  const file = useRef(/** @type {HTMLInputElement | null} */ (null));
  const open = (/** @type {string | null} */ id) => {
    onLeave();
    void chat.openSession(id);
  };
  const chosen = () => {
    const picked = file.current?.files?.[0];
    if (picked) void chat.importSession(picked);
    if (file.current) file.current.value = "";
  };

  return html`<nav class="sidebar" aria-label=${strings.sessions.heading}>
    <div class="sidebar-top">
      <button type="button" id="new-chat" class="wide" onClick=${() => open(null)}>
        <${Icon} name="plus" /> ${strings.sessions.fresh}
      </button>
      <button type="button" class="wide plain" onClick=${onSearch}>
        <${Icon} name="search" /> ${strings.sessions.search} <kbd>${strings.sessions.searchKeys}</kbd>
      </button>
    </div>
    <div class="session-list">
      ${sessions.problem !== null &&
      html`<div class="notice" role="alert">
        ${sentence(sessions.problem)}
        <button type="button" onClick=${() => sessions.load()}>${strings.retry}</button>
      </div>`}
      ${sessions.loaded && sessions.list.length === 0 && html`<p class="hint">${strings.sessions.none}</p>`}
      ${byAge(sessions.list).map(
        ([age, list]) => html`<section key=${age}>
          <h2>${age}</h2>
          <ul>
            ${list.map(
              (session) => html`<${Row}
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
      ${sessions.more !== null &&
      html`<button type="button" class="plain wide" onClick=${() => sessions.loadMore()}>${strings.sessions.more}</button>`}
    </div>
    <div class="sidebar-bottom">
      <a class="wide plain button" href="#/usage" onClick=${onLeave}><${Icon} name="usage" /> ${strings.sessions.usage}</a>
      <button type="button" class="wide plain" onClick=${() => file.current?.click()}>
        <${Icon} name="import" /> ${strings.sessions.import}
      </button>
      <input ref=${file} type="file" accept="application/json,.json" hidden onChange=${chosen} />
      <div class="row">
        <${ThemeChoice} />
        <${IconButton} icon="help" label=${strings.help.open} shortcut="?" onClick=${onHelp} />
        <${IconButton} icon="key" label=${account.config?.demo ? strings.key.change : strings.key.leave} onClick=${() => (account.config?.demo ? chat.changeKey() : chat.leave())} />
      </div>
    </div>
  </nav>`;
}

function ThemeChoice() {
  const [chosen, setChosen] = useState(theme());
  const choose = (/** @type {Event} */ event) => {
    const value = /** @type {import("../storage.js").Theme} */ (/** @type {HTMLSelectElement} */ (event.target).value);
    setTheme(value);
    setChosen(value);
  };
  return html`<select class="theme" aria-label=${strings.theme.label} value=${chosen} onChange=${choose}>
    <option value="system">${strings.theme.system}</option>
    <option value="light">${strings.theme.light}</option>
    <option value="dark">${strings.theme.dark}</option>
  </select>`;
}

/**
 * @param {{chat: Chat, session: Session, current: boolean, answering: boolean, onOpen: () => void}} properties
 */
function Row({ chat, session, current, answering, onOpen }) {
  const [renaming, setRenaming] = useState(/** @type {string | null} */ (null));
  const row = useRef(/** @type {HTMLLIElement | null} */ (null));
  const hadRenaming = useRef(false);
  useEffect(() => {
    // Who leaves the field by a key goes on where they came from.
    const isLost = document.activeElement === document.body;
    if (hadRenaming.current && renaming === null && isLost) row.current?.querySelector("button")?.focus();
    hadRenaming.current = renaming !== null;
  }, [renaming]);
  const title = session.title ?? strings.sessions.untitled;
  if (renaming !== null) {
    const rename = async (/** @type {string} */ text) => {
      setRenaming(null);
      if (text.trim() === (session.title ?? "")) return;
      if (!(await chat.sessions.rename(session.session_id, text.trim()))) setRenaming(text);
    };
    return html`<li ref=${row}><${Rename} title=${renaming} onDone=${rename} onCancel=${() => setRenaming(null)} /></li>`;
  }
  const remove = () => {
    const { nextElementSibling, previousElementSibling } = row.current ?? {};
    const neighbour = (nextElementSibling ?? previousElementSibling)?.querySelector("a") ?? document.getElementById("new-chat");
    neighbour?.focus();
    chat.deleteSession(session.session_id);
  };
  return html`<li ref=${row} class=${current ? "current" : ""}>
    <a
      href="#/${session.session_id}"
      dir="auto"
      aria-current=${current ? "page" : undefined}
      onClick=${(/** @type {MouseEvent} */ event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return; // the browser opens it elsewhere
        event.preventDefault();
        onOpen();
      }}
    >${title}${answering && html` <span class="dot" role="img" aria-label=${strings.sessions.answering}></span>`}</a>
    <${Menu}
      label=${strings.sessions.actions(title)}
      items=${[
        [strings.sessions.rename, () => setRenaming(session.title ?? "")],
        [strings.sessions.exportMarkdown, () => chat.exportSession(session.session_id, "markdown")],
        [strings.sessions.exportJson, () => chat.exportSession(session.session_id, "json")],
        [strings.sessions.delete, remove],
      ]}
    />
  </li>`;
}

/**
 * @param {{title: string, onDone: (title: string) => void, onCancel: () => void}} properties
 */
function Rename({ title, onDone, onCancel }) {
  const input = useRef(/** @type {HTMLInputElement | null} */ (null));
  const over = useRef(false); // going away, the field loses the focus once more
  useEffect(() => {
    input.current?.focus();
    input.current?.select();
  }, []);
  const end = (/** @type {boolean} */ keep) => {
    if (over.current) return;
    over.current = true;
    if (keep) onDone(input.current?.value ?? title);
    else onCancel();
  };
  const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
    if (event.isComposing) return;
    if (event.key === "Enter") end(true);
    if (event.key === "Escape") end(false);
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
    onBlur=${() => end(true)}
  />`;
}

/**
 * A button with a list of things to do.
 * @param {{label: string, items: [string, () => void][]}} properties
 */
function Menu({ label, items }) {
  const [open, setOpen] = useState(false);
  const box = useRef(/** @type {HTMLDivElement | null} */ (null));
  const id = useId();
  const buttons = () => /** @type {HTMLElement[]} */ ([...(box.current?.querySelectorAll("[role=menuitem]") ?? [])]);
  useEffect(() => {
    if (!open) return;
    buttons()[0]?.focus();
    const away = (/** @type {Event} */ event) => {
      if (!box.current?.contains(/** @type {Node} */ (event.target))) setOpen(false);
    };
    addEventListener("pointerdown", away);
    return () => removeEventListener("pointerdown", away);
  }, [open]);
  const close = () => {
    setOpen(false);
    box.current?.querySelector("button")?.focus();
  };
  const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
    if (!open) return;
    const all = buttons();
    const at = all.indexOf(/** @type {HTMLElement} */ (document.activeElement));
    if (event.key === "Escape") close();
    else if (event.key === "ArrowDown") all[(at + 1) % all.length].focus();
    else if (event.key === "ArrowUp") all[(at - 1 + all.length) % all.length].focus();
    else if (event.key === "Home") all[0].focus();
    else if (event.key === "End") all[all.length - 1].focus();
    else if (event.key === "Tab") setOpen(false);
    else return;
    if (event.key !== "Tab") event.preventDefault();
    event.stopPropagation();
  };
  return html`<div class="menu" ref=${box} onKeyDown=${onKeyDown}>
    <button type="button" class="icon-button" aria-label=${label} title=${label} aria-haspopup="menu" aria-expanded=${open}
      aria-controls=${open ? id : undefined} onClick=${() => setOpen(!open)}><${Icon} name="more" /></button>
    ${open &&
    html`<div class="menu-items" role="menu" id=${id} aria-label=${label}>
      ${items.map(
        ([text, act]) => html`<button type="button" role="menuitem" tabindex="-1" onClick=${() => [close(), act()]}>${text}</button>`,
      )}
    </div>`}
  </div>`;
}

/**
 * Sessions under the names of their ages, in the order of the list.
 * @param {Session[]} list
 * @returns {[string, Session[]][]}
 */
function byAge(list) {
  const today = new Date().setHours(0, 0, 0, 0);
  const day = 86_400_000;
  /** @type {Map<string, Session[]>} */
  const ages = new Map();
  for (const session of list) {
    const then = Date.parse(session.last_updated);
    const { today: t, yesterday: y, week: w, older: o } = strings.sessions;
    const age = then >= today ? t : then >= today - day ? y : then >= today - 7 * day ? w : o;
    ages.set(age, [...(ages.get(age) ?? []), session]);
  }
  return [...ages];
}
