// The whole page.
import { html, useEffect, useState } from "../vendor/htm-preact.js";
import { sentence } from "../chat.js";
import { useWatch } from "../observable.js";
import { strings } from "../strings.js";
import { ConversationView } from "./conversation.js";
import { Help } from "./help.js";
import { IconButton } from "./icons.js";
import { KeyPage } from "./key.js";
import { Panel } from "./panel.js";
import { Search } from "./search.js";
import { Sidebar } from "./sidebar.js";
import { UsageView } from "./usage.js";

/** @typedef {import("../chat.js").Chat} Chat */

/** @param {{chat: Chat}} properties */
export function App({ chat }) {
  const [trouble, setTrouble] = useState(/** @type {unknown} */ (null));
  useWatch(chat, chat.account);
  const begin = async () => {
    setTrouble(null);
    try {
      await chat.begin();
    } catch (error) {
      setTrouble(error);
    }
  };
  useEffect(() => {
    void begin();
  }, []);

  if (trouble !== null)
    return html`<main class="key-page">
      <div class="card" role="alert">
        <p>${sentence(trouble)}</p>
        <div class="buttons"><button type="button" class="primary" onClick=${begin}>${strings.retry}</button></div>
      </div>
    </main>`;
  if (chat.account.config === null) return html`<main class="key-page"><p class="hint" role="status">${strings.starting}</p></main>`;
  if (!chat.account.open) return html`<${KeyPage} chat=${chat} />`;
  return html`<${Rooms} chat=${chat} />`;
}

/** The page of somebody who has a key. @param {{chat: Chat}} properties */
function Rooms({ chat }) {
  const [over, setOver] = useState(/** @type {"search" | "help" | "panel" | null} */ (null));
  const [menu, setMenu] = useState(false); // on narrow screens
  const { conversation } = chat;
  useWatch(conversation, chat.sessions);
  const close = () => setOver(null);

  useEffect(() => {
    const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
      if (event.isComposing || event.key === undefined) return; // a browser that fills in a field names no key
      const command = event.ctrlKey || event.metaKey;
      const key = event.key.toLowerCase();
      const isSearch = command && key === "k";
      const isFresh = command && event.shiftKey && key === "o";
      const { conversation: shown, view } = chat;
      if (document.querySelector("dialog[open]")) {
        if (!isSearch && !isFresh) return; // what is open may have something written in it: it stays
      } else if (isSearch) setOver("search");
      else if (isFresh) void chat.openSession(null);
      else if (key === "?" && !isWriting(event.target)) setOver("help");
      else if (key === "escape" && menu) setMenu(false);
      else if (key === "escape" && view === "chat" && shown.answering) void shown.stop();
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", onKeyDown);
    return () => removeEventListener("keydown", onKeyDown);
  }, [chat, menu]);
  useEffect(() => setMenu(false), [conversation, chat.view]);
  useEffect(() => {
    if (menu) document.getElementById("new-chat")?.focus();
  }, [menu]);

  const skip = (/** @type {Event} */ event) => {
    event.preventDefault(); // the address names the chat
    document.getElementById("composer")?.focus();
  };
  const title = titleOf(chat);
  useEffect(() => {
    document.title = chat.view === "usage" ? strings.usage.heading : title;
  });

  return html`<div class="rooms ${menu ? "menu-open" : ""}">
    ${chat.view === "chat" && html`<a class="skip" href="#composer" onClick=${skip}>${strings.skip}</a>`}
    <${Sidebar} chat=${chat} onSearch=${() => setOver("search")} onHelp=${() => setOver("help")} onLeave=${() => setMenu(false)} />
    ${menu && html`<div class="shade" onClick=${() => setMenu(false)}></div>`}
    <main>
      <header class="top">
        <${IconButton} icon="menu" class="narrow" label=${strings.menu} expanded=${menu} onClick=${() => setMenu(!menu)} />
        <h1 dir="auto">${chat.view === "usage" ? strings.usage.heading : title}</h1>
        ${chat.view === "chat" &&
        html`${chat.account.config?.demo && html`<span class="badge">${strings.simulated}</span>`}
          <span class="model">${conversation.wishes.model || chat.account.config?.default_model}</span>
          <${IconButton} icon="settings" label=${strings.conversation.settings} disabled=${conversation.state !== "ready"} onClick=${() => setOver("panel")} />`}
        <${IconButton} icon="plus" class="narrow" label=${strings.sessions.fresh} onClick=${() => chat.openSession(null)} />
      </header>
      ${chat.view === "usage"
        ? html`<${UsageView} chat=${chat} />`
        : html`<${ConversationView} key=${keyOf(conversation)} chat=${chat} conversation=${conversation} />`}
    </main>
    ${over === "search" && html`<${Search} chat=${chat} onClose=${close} />`}
    ${over === "help" && html`<${Help} onClose=${close} />`}
    ${over === "panel" && html`<${Panel} key=${keyOf(conversation)} chat=${chat} conversation=${conversation} onClose=${close} />`}
    <${Toasts} chat=${chat} />
    <div class="hidden" role="status" aria-live="polite">${chat.said}</div>
  </div>`;
}

/** @param {{chat: Chat}} properties */
function Toasts({ chat }) {
  return html`<div class="toasts" role="status">
    ${chat.toasts.map(
      (toast) => html`<div class="toast" key=${toast.id}>
        <span>${toast.text}</span>
        ${toast.action && html`<button type="button" onClick=${toast.action.act}>${toast.action.label}</button>`}
      </div>`,
    )}
  </div>`;
}

/** @param {Chat} chat */
function titleOf({ conversation, sessions }) {
  const listed = sessions.list.find((session) => session.session_id === conversation.id);
  return (listed ?? conversation.session)?.title ?? strings.sessions.untitled;
}

/** @param {EventTarget | null} target */
function isWriting(target) {
  return target instanceof HTMLElement && target.matches("input, textarea, select");
}

/** @type {WeakMap<object, number>} */
const keys = new WeakMap();
let lastKey = 0;

/** A key for a view that belongs to this object alone. @param {object} shown */
function keyOf(shown) {
  if (!keys.has(shown)) keys.set(shown, (lastKey += 1));
  return keys.get(shown);
}
