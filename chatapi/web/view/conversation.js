// The open conversation: its messages, its last error, and the composer.
import { ApiError } from "../api/client.js";
import { errorText, isAboutKey } from "../error-text.js";
import { useWatch } from "../state/observable.js";
import { strings } from "../strings.js";
import { html, useEffect, useRef } from "../vendor/htm-preact.js";
import { Composer } from "./composer.js";
import { DEMO_SUGGESTIONS, DemoBar } from "./demo.js";
import { Icon, IconButton } from "./icons.js";
import { MessageView, isContinuation } from "./message.js";
import { Notice } from "./notice.js";
import { useFollowEnd, useStablePosition } from "./scrolling.js";

/**
 * @typedef {import("../state/chat.js").Chat} Chat
 * @typedef {import("../state/conversation.js").Conversation} Conversation
 */

const HIGHLIGHT_MS = 2000; // of a message that was scrolled to

/** @param {{chat: Chat, conversation: Conversation}} properties */
export function ConversationView({ chat, conversation }) {
  useWatch(conversation);
  const { scroller, content, atEnd, scrollToEnd, stopFollowing, hold } = useFollowEnd(conversation);
  const { shown } = conversation;
  useStablePosition(scroller, conversation.messages[0]?.id);

  useEffect(() => {
    if (conversation.scrollTarget === null) return;
    const { messageId, control } = conversation.scrollTarget;
    const message = document.getElementById(messageId);
    if (message === null) return;
    conversation.scrollTarget = null;
    stopFollowing();
    const focused = control === null ? null : message.querySelector(`${control}:enabled`);
    message.scrollIntoView({ block: control === null ? "center" : "nearest" });
    hold(message);
    (focused instanceof HTMLElement ? focused : message).focus({ preventScroll: true });
    if (control !== null) return;
    message.classList.add("target");
    setTimeout(() => message.classList.remove("target"), HIGHLIGHT_MS);
  }, [conversation.scrollTarget, shown]);

  const isEmpty = shown.length === 0 && conversation.state === "ready";
  return html`<div class="conversation ${isEmpty ? "empty" : ""}">
    <div class="scroller" ref=${scroller} tabindex="0" role="log" aria-live="off" aria-label=${strings.conversation.label}>
      <div class="content" ref=${content}>
        <${Older} conversation=${conversation} scroller=${scroller} />
        ${isEmpty ? html`<${Hello} />` : html`<${Absent} chat=${chat} conversation=${conversation} />`}
        ${shown.map(
          (message, index) => html`<${MessageView}
            key=${message.key}
            chat=${chat}
            conversation=${conversation}
            message=${message}
            last=${index === shown.length - 1}
            continued=${isContinuation(shown[index + 1]) || shown[index + 1]?.role === "tool"}
          />`,
        )}
      </div>
    </div>
    <div class="dock">
      ${!atEnd && html`<${IconButton} icon="down" class="to-end" label=${strings.conversation.latest} onClick=${scrollToEnd} />`}
      ${chat.account.config?.demo && conversation.isAnswering && html`<${DemoBar} chat=${chat} conversation=${conversation} />`}
      <${ErrorBanner} chat=${chat} conversation=${conversation} />
      <${Composer} chat=${chat} conversation=${conversation} />
    </div>
    <div class="below">${isEmpty && html`<${Suggestions} chat=${chat} conversation=${conversation} />`}</div>
  </div>`;
}

/** The greeting of a new session. */
function Hello() {
  return html`<div class="hello"><h2>${strings.conversation.hello}</h2></div>`;
}

/**
 * Messages to start with. The demo sends them; elsewhere they are written into the composer, because an answer costs.
 * @param {{chat: Chat, conversation: Conversation}} properties
 */
function Suggestions({ chat, conversation }) {
  const isDemo = chat.account.config?.demo ?? false;
  const choose = (/** @type {string} */ text) =>
    isDemo ? void conversation.send(text, []) : conversation.suggest(text);
  const suggestions = isDemo ? DEMO_SUGGESTIONS : strings.conversation.suggestions;
  return html`<div class="suggestions">
    ${suggestions.map(
      ([icon, text]) => html`<button type="button" onClick=${() => choose(text)}><${Icon} name=${icon} /><span>${text}</span></button>`,
    )}
  </div>`;
}

/** Shown in place of messages that are loading or do not exist. @param {{chat: Chat, conversation: Conversation}} properties */
function Absent({ chat, conversation }) {
  if (conversation.state === "gone")
    return html`<div class="hint centre">
      <p role="status">${strings.conversation.gone}</p>
      <button type="button" onClick=${() => chat.openSession(null)}>${strings.sessions.newChat}</button>
    </div>`;
  if (conversation.state === "loading" && conversation.error === null)
    return html`<p class="hint centre" role="status">${strings.conversation.loading}</p>`;
  return null;
}

/** Loads earlier messages when it scrolls into view. @param {{conversation: Conversation, scroller: {current: HTMLElement | null}}} properties */
function Older({ conversation, scroller }) {
  const sentinel = useRef(/** @type {HTMLDivElement | null} */ (null));
  const { hasOlder } = conversation;
  const firstId = conversation.messages[0]?.id;
  useEffect(() => {
    if (!hasOlder || sentinel.current === null) return;
    const observer = new IntersectionObserver(
      (entries) => {
        // A delayed callback receives several entries in order: only the last one is current.
        if (entries.at(-1)?.isIntersecting) void conversation.loadOlder();
      },
      { root: scroller.current, rootMargin: "600px 0px 0px 0px" },
    );
    observer.observe(sentinel.current);
    return () => observer.disconnect();
  }, [conversation, hasOlder, firstId]);
  if (!hasOlder) return null;
  return html`<div ref=${sentinel} class="hint centre">
    <button type="button" class="plain" onClick=${() => conversation.loadOlder()}>
      ${conversation.isLoadingOlder ? strings.conversation.loadingOlder : strings.conversation.loadOlder}
    </button>
  </div>`;
}

/** The last error, with the actions that may help. @param {{chat: Chat, conversation: Conversation}} properties */
function ErrorBanner({ chat, conversation }) {
  const { error } = conversation;
  if (error === null || conversation.state === "gone") return null;
  const canReload = conversation.isStale || chat.sessions.error !== null;
  const reload = () => void Promise.all([conversation.load(), chat.sessions.load()]);
  const isRefusal = error instanceof ApiError;
  const step = isRefusal && isAboutKey(error.code)
    ? { label: strings.key.change, act: () => chat.changeKey() }
    : canReload ? { label: strings.retry, act: reload } : null;
  return html`<${Notice} text=${errorText(error)} step=${step}
    onDismiss=${conversation.state === "loading" ? undefined : () => conversation.dismissError()} />`;
}
