// The layout of the chat: sidebar, header, conversation, dialogs; and the keyboard shortcuts.
import { useWatch } from "../state/observable.js";
import { dismissModelNotice, foldSidebar, modelNoticeDismissed, sidebarIsFolded } from "../state/storage.js";
import { strings } from "../strings.js";
import { html, useEffect, useState } from "../vendor/htm-preact.js";
import { isComposing } from "./composition.js";
import { ConversationView } from "./conversation.js";
import { Help } from "./help.js";
import { IconButton } from "./icons.js";
import { ImportDialog } from "./import-dialog.js";
import { Notice } from "./notice.js";
import { Preferences } from "./preferences.js";
import { Search } from "./search.js";
import { SettingsDialog } from "./settings.js";
import { ShareDialog } from "./share-dialog.js";
import { Sidebar } from "./sidebar.js";
import { UsageView } from "./usage.js";

/** @typedef {import("../state/chat.js").Chat} Chat */

/** @param {{chat: Chat}} properties */
export function ChatLayout({ chat }) {
  const [dialog, setDialog] = useState(/** @type {"search" | "help" | "settings" | "preferences" | null} */ (null));
  const [menu, setMenu] = useState(false); // the sidebar on narrow screens
  const [isFolded, setFolded] = useState(sidebarIsFolded()); // the sidebar on wide screens
  const [shared, setShared] = useState(/** @type {string | null} */ (null)); // the session whose links are shown
  const { conversation } = chat;
  useWatch(conversation, chat.sessions, chat.attention);
  const close = () => setDialog(null);
  const toggleSidebar = () => {
    if (isNarrow()) return setMenu(!menu);
    foldSidebar(!isFolded);
    setFolded(!isFolded);
  };

  useEffect(() => {
    const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
      if (isComposing(event) || event.key === undefined) return; // autofill sends events without a key
      const command = event.ctrlKey || event.metaKey;
      const key = event.key.toLowerCase();
      const isSearch = command && key === "k";
      const isNewChat = command && event.shiftKey && key === "o";
      const isSidebar = command && !event.shiftKey && key === "b";
      const { conversation: shown, view } = chat;
      if (document.querySelector("dialog[open]")) {
        if (!isSearch && !isNewChat && !isSidebar) return; // the open dialog stays: it may hold unsaved text
      } else if (isSearch) setDialog("search");
      else if (isNewChat) void chat.openSession(null);
      else if (isSidebar) toggleSidebar();
      else if (key === "?" && !isTextField(event.target)) setDialog("help");
      else if (key === "escape" && menu) setMenu(false);
      else if (key === "escape" && view === "chat" && shown.isAnswering) void shown.stop();
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", onKeyDown);
    return () => removeEventListener("keydown", onKeyDown);
  }, [chat, menu, isFolded]);
  useEffect(() => setMenu(false), [conversation, chat.view]);
  useEffect(() => {
    if (menu) document.getElementById("new-chat")?.focus();
  }, [menu]);

  const skipToComposer = (/** @type {Event} */ event) => {
    event.preventDefault(); // the fragment of the address names the session
    document.getElementById("composer")?.focus();
  };
  const title = titleOf(chat);
  useEffect(() => {
    const shown = chat.view === "usage" ? strings.usage.heading : title;
    document.title = chat.attention.isWanted ? strings.done(shown) : shown;
  });

  return html`<div class="layout ${menu ? "menu-open" : ""} ${isFolded ? "folded" : ""}">
    ${chat.view === "chat" && html`<a class="skip" href="#composer" onClick=${skipToComposer}>${strings.skip}</a>`}
    <${Sidebar} chat=${chat} onSearch=${() => setDialog("search")} onSettings=${() => [setMenu(false), setDialog("preferences")]} onFold=${toggleSidebar}
      onOpen=${() => setMenu(false)} onShare=${setShared} />
    ${menu && html`<div class="shade" onClick=${() => setMenu(false)}></div>`}
    <main>
      <header class="top">
        <${IconButton} icon="menu" class="narrow" label=${strings.menu} expanded=${menu} onClick=${() => setMenu(!menu)} />
        ${isFolded &&
        html`<${IconButton} icon="sidebar" class="wide-only" label=${strings.unfoldSidebar} shortcut="Ctrl B" onClick=${toggleSidebar} />
          <${IconButton} icon="compose" class="wide-only" label=${strings.sessions.newChat} onClick=${() => chat.openSession(null)} />`}
        <h1 dir="auto">${chat.view === "usage" ? strings.usage.heading : title}</h1>
        ${chat.view === "chat" &&
        html`${conversation.isTemporary && html`<span class="badge">${strings.settings.temporary}</span>`}
          ${chat.account.config?.demo && html`<span class="badge">${strings.simulated}</span>`}
          <${IconButton} icon="sliders" label=${strings.conversation.settings} disabled=${conversation.state !== "ready"} onClick=${() => setDialog("settings")} />`}
        <${IconButton} icon="compose" class="narrow" label=${strings.sessions.newChat} onClick=${() => chat.openSession(null)} />
      </header>
      ${chat.view === "usage"
        ? html`<${UsageView} chat=${chat} />`
        : html`<${ModelNotice} text=${chat.account.config?.default_model_notice ?? null} />
          <${ConversationView} key=${keyOf(conversation)} chat=${chat} conversation=${conversation} />`}
    </main>
    ${dialog === "search" && html`<${Search} chat=${chat} onClose=${close} />`}
    ${dialog === "help" && html`<${Help} onClose=${close} />`}
    ${dialog === "preferences" && html`<${Preferences} chat=${chat} onClose=${close} onHelp=${() => setDialog("help")} />`}
    ${dialog === "settings" && html`<${SettingsDialog} key=${keyOf(conversation)} chat=${chat} conversation=${conversation} onClose=${close} />`}
    ${shared !== null && html`<${ShareDialog} chat=${chat} sessionId=${shared} onClose=${() => setShared(null)} />`}
    ${chat.importer !== null && html`<${ImportDialog} importer=${chat.importer} onClose=${() => chat.closeImport()} />`}
    <${ToastList} toasts=${chat.toasts} />
    <div class="hidden" role="status" aria-live="polite">${chat.announcement}</div>
  </div>`;
}

/**
 * The end of the default model, for the operator. A tab shows it until it is dismissed.
 * @param {{text: string | null}} properties
 */
function ModelNotice({ text }) {
  const [dismissed, setDismissed] = useState(modelNoticeDismissed());
  if (text === null || dismissed === text) return null;
  const dismiss = () => {
    dismissModelNotice(text);
    setDismissed(text);
  };
  return html`<${Notice} text=${text} mild=${true} role="status" onDismiss=${dismiss} />`;
}

/** @param {{toasts: import("../state/toasts.js").Toasts}} properties */
function ToastList({ toasts }) {
  useWatch(toasts);
  return html`<div class="toasts" role="status">
    ${toasts.list.map(
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

/** Whether the sidebar is a layer over the page, as in layout.css. */
function isNarrow() {
  return matchMedia("(max-width: 48rem)").matches;
}

/** @param {EventTarget | null} target */
function isTextField(target) {
  return target instanceof HTMLElement && target.matches("input, textarea, select");
}

/** @type {WeakMap<object, number>} */
const keys = new WeakMap();
let lastKey = 0;

/** A key that gives each object a component instance of its own. @param {object} shown */
function keyOf(shown) {
  if (!keys.has(shown)) keys.set(shown, (lastKey += 1));
  return keys.get(shown);
}
