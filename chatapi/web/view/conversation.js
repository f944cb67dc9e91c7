// The open conversation: its messages, which stay where the reader is, and the way to the latest.
import { html, useEffect, useLayoutEffect, useRef, useState } from "../vendor/htm-preact.js";
import { Problem } from "../api.js";
import { sentence } from "../chat.js";
import { useWatch } from "../observable.js";
import { strings } from "../strings.js";
import { Composer } from "./composer.js";
import { Icon, IconButton } from "./icons.js";
import { MessageView } from "./message.js";

/**
 * @typedef {import("../chat.js").Chat} Chat
 * @typedef {import("../conversation.js").Conversation} Conversation
 */

const NEAR_PIXELS = 60; // from the bottom: a reader there follows what comes

/** @param {{chat: Chat, conversation: Conversation}} properties */
export function ConversationView({ chat, conversation }) {
  useWatch(conversation);
  const { scroller, content, atEnd, goToEnd, stay } = useFollowing(conversation);
  const { shown } = conversation;
  usePlace(scroller, conversation.messages[0]?.id);

  useEffect(() => {
    if (conversation.sought === null) return;
    const { messageId, control } = conversation.sought;
    const found = document.getElementById(messageId);
    if (found === null) return;
    conversation.sought = null;
    stay();
    const sought = control === null ? null : found.querySelector(`${control}:enabled`);
    found.scrollIntoView({ block: control === null ? "center" : "nearest" });
    (sought instanceof HTMLElement ? sought : found).focus({ preventScroll: true });
    if (control !== null) return;
    found.classList.add("sought");
    setTimeout(() => found.classList.remove("sought"), 2000);
  }, [conversation.sought, shown]);

  return html`<div class="conversation">
    <div class="scroller" ref=${scroller} tabindex="0" role="log" aria-live="off" aria-label=${strings.conversation.label}>
      <div class="content" ref=${content}>
        <${Older} conversation=${conversation} scroller=${scroller} />
        <${Empty} chat=${chat} conversation=${conversation} />
        ${shown.map(
          (message, index) => html`<${MessageView}
            key=${message.key}
            chat=${chat}
            conversation=${conversation}
            message=${message}
            last=${index === shown.length - 1}
          />`,
        )}
      </div>
    </div>
    ${!atEnd && html`<${IconButton} icon="down" class="to-end" label=${strings.conversation.latest} onClick=${goToEnd} />`}
    <${Trouble} chat=${chat} conversation=${conversation} />
    <${Composer} chat=${chat} conversation=${conversation} />
  </div>`;
}

/** What is there when there are no messages. @param {{chat: Chat, conversation: Conversation}} properties */
function Empty({ chat, conversation }) {
  if (conversation.state === "gone")
    return html`<div class="hint centre">
      <p role="status">${strings.conversation.gone}</p>
      <button type="button" onClick=${() => chat.openSession(null)}>${strings.sessions.fresh}</button>
    </div>`;
  if (conversation.state === "loading" && conversation.problem === null)
    return html`<p class="hint centre" role="status">${strings.conversation.loading}</p>`;
  if (conversation.shown.length > 0 || conversation.state !== "ready") return null;
  return html`<div class="hello">
    <h2>${strings.conversation.hello}</h2>
    ${chat.account.config?.demo &&
    html`<div class="suggestions">
      ${strings.conversation.suggestions.map(
        (text) => html`<button type="button" onClick=${() => conversation.send(text, [])}>${text}</button>`,
      )}
    </div>`}
  </div>`;
}

/** Loads earlier messages when the reader comes to the first. @param {{conversation: Conversation, scroller: {current: HTMLElement | null}}} properties */
function Older({ conversation, scroller }) {
  const mark = useRef(/** @type {HTMLDivElement | null} */ (null));
  const first = conversation.messages[0]?.id;
  useEffect(() => {
    if (conversation.older === null || mark.current === null) return;
    const seen = new IntersectionObserver(
      ([entry]) => {
        if (entry.isIntersecting) void conversation.loadOlder();
      },
      { root: scroller.current, rootMargin: "600px 0px 0px 0px" },
    );
    seen.observe(mark.current);
    return () => seen.disconnect();
  }, [conversation, conversation.older, first]);
  if (conversation.older === null) return null;
  return html`<div ref=${mark} class="hint centre">
    <button type="button" class="plain" onClick=${() => conversation.loadOlder()}>${strings.conversation.loadingOlder}</button>
  </div>`;
}

/** What went wrong, said plainly, with what to do next. @param {{chat: Chat, conversation: Conversation}} properties */
function Trouble({ chat, conversation }) {
  const { problem } = conversation;
  if (problem === null || conversation.state === "gone") return null;
  const aboutKey = problem instanceof Problem && (problem.status === 401 || problem.code === "invalid_api_key_format");
  return html`<div class="trouble" role="alert">
    <${Icon} name="warning" />
    <span>${sentence(problem)}</span>
    ${aboutKey && html`<button type="button" onClick=${() => chat.changeKey()}>${strings.key.change}</button>`}
    ${conversation.behind && html`<button type="button" onClick=${() => conversation.load()}>${strings.retry}</button>`}
    ${conversation.state !== "loading" &&
    html`<${IconButton} icon="close" label=${strings.dismiss} onClick=${() => conversation.dismissProblem()} />`}
  </div>`;
}

/**
 * Keep the view at the end while the reader is there, and leave it alone where they are not.
 * @param {Conversation} conversation
 */
function useFollowing(conversation) {
  const scroller = useRef(/** @type {HTMLDivElement | null} */ (null));
  const content = useRef(/** @type {HTMLDivElement | null} */ (null));
  const following = useRef(true);
  const [atEnd, setAtEnd] = useState(true);
  const goToEnd = () => {
    following.current = true;
    const box = scroller.current;
    if (box !== null) box.scrollTop = box.scrollHeight;
  };
  useLayoutEffect(() => {
    const box = scroller.current;
    if (box === null || content.current === null) return;
    goToEnd();
    let top = box.scrollTop;
    const onScroll = () => {
      const near = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_PIXELS;
      // Content that grows takes the end away from under a reader who has not moved: only who goes up leaves it.
      const up = box.scrollTop < top;
      top = box.scrollTop;
      if (!near && !up && following.current) return;
      following.current = near;
      setAtEnd(near);
    };
    const grown = new ResizeObserver(() => {
      if (following.current) box.scrollTop = box.scrollHeight;
    });
    grown.observe(content.current);
    grown.observe(box);
    box.addEventListener("scroll", onScroll, { passive: true });
    return () => {
      grown.disconnect();
      box.removeEventListener("scroll", onScroll);
    };
  }, [conversation]);
  // Whoever sends looks at what they sent.
  useLayoutEffect(goToEnd, [conversation.answer]);
  const stay = () => {
    following.current = false;
  };
  return { scroller, content, atEnd, goToEnd, stay };
}

/**
 * Keep what is looked at where it is when earlier messages come in above it. Browsers do so by themselves, but not for
 * a reader who is at the very top, nor all of them.
 * @param {{current: HTMLElement | null}} scroller
 * @param {string | undefined} first the id of the earliest message
 */
function usePlace(scroller, first) {
  const before = useRef(/** @type {{first: string | undefined, element: Element | null, top: number} | null} */ (null));
  if (before.current?.first !== first) {
    const element = scroller.current?.querySelector("article") ?? null;
    before.current = { first, element, top: element?.getBoundingClientRect().top ?? 0 };
  }
  useLayoutEffect(() => {
    const { element, top } = before.current ?? { element: null, top: 0 };
    if (scroller.current === null || !element?.isConnected) return;
    scroller.current.scrollTop += element.getBoundingClientRect().top - top;
  }, [first]);
}
