// The scroll position of a conversation.
import { useLayoutEffect, useRef, useState } from "../vendor/htm-preact.js";

/** @typedef {import("../state/conversation.js").Conversation} Conversation */

const NEAR_END_PIXELS = 60; // a reader who is this close to the end follows new text
const READER_EVENTS = ["wheel", "touchstart", "pointerdown", "keydown"]; // with which a reader may scroll

/**
 * Keep the end of the conversation in view while the reader is there; otherwise keep the position.
 * @param {Conversation} conversation
 */
export function useFollowEnd(conversation) {
  const scroller = useRef(/** @type {HTMLDivElement | null} */ (null));
  const content = useRef(/** @type {HTMLDivElement | null} */ (null));
  const following = useRef(true);
  /** Restored after each change of size until the reader scrolls: messages get their heights when they come into view. */
  const restored = useRef(conversation.readingPosition);
  /** The position at the last event, or where this page has scrolled to since: a lower one is the reader's. */
  const top = useRef(0);
  const [atEnd, setAtEnd] = useState(true);
  const scrollToEnd = () => {
    following.current = true;
    restored.current = null;
    const box = scroller.current;
    if (box === null) return;
    box.scrollTop = box.scrollHeight;
    top.current = box.scrollTop;
  };
  useLayoutEffect(() => {
    const box = scroller.current;
    if (box === null || content.current === null) return;
    if (restorePosition(box, restored.current)) following.current = false;
    else scrollToEnd();
    setAtEnd(following.current);
    const onReader = () => {
      restored.current = null;
    };
    top.current = box.scrollTop;
    const onScroll = () => {
      const isNear = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_END_PIXELS;
      // Growing content moves the end away from a reader who has not moved: only scrolling up stops following.
      const isUp = box.scrollTop < top.current;
      top.current = box.scrollTop;
      if (!isNear && !isUp && following.current) return;
      // A restored position can be near the end only because the content below has no heights yet.
      following.current = isNear && restored.current === null;
      setAtEnd(isNear);
    };
    const onResize = new ResizeObserver(() => {
      if (following.current) scrollToEnd();
      else restorePosition(box, restored.current);
    });
    onResize.observe(content.current);
    onResize.observe(box);
    box.addEventListener("scroll", onScroll, { passive: true });
    for (const name of READER_EVENTS) box.addEventListener(name, onReader, { passive: true });
    return () => {
      onResize.disconnect();
      box.removeEventListener("scroll", onScroll);
      for (const name of READER_EVENTS) box.removeEventListener(name, onReader);
      conversation.readingPosition = following.current ? null : readPosition(box);
    };
  }, [conversation]);
  // A message that was just sent is shown.
  const shownAnswer = useRef(conversation.answer);
  useLayoutEffect(() => {
    if (shownAnswer.current !== conversation.answer) scrollToEnd();
    shownAnswer.current = conversation.answer;
  }, [conversation.answer]);
  const stopFollowing = () => {
    following.current = false;
    restored.current = null;
  };
  /** @param {Element} message that stays where it is when messages above it get their heights */
  const hold = (message) => {
    if (scroller.current === null) return;
    restored.current = { messageId: message.id, block: null, offset: topOf(message) - topOf(scroller.current) };
  };
  return { scroller, content, atEnd, scrollToEnd, stopFollowing, hold };
}

/**
 * Keep the visible messages in place when earlier ones are inserted above. Browsers do this themselves, except at the
 * very top, and not all of them do.
 * @param {{current: HTMLElement | null}} scroller
 * @param {string | undefined} firstId of the oldest message
 */
export function useStablePosition(scroller, firstId) {
  const before = useRef(/** @type {{firstId: string | undefined, element: Element | null, top: number} | null} */ (null));
  if (before.current?.firstId !== firstId) {
    const element = scroller.current?.querySelector("article") ?? null;
    before.current = { firstId, element, top: element?.getBoundingClientRect().top ?? 0 };
  }
  useLayoutEffect(() => {
    const { element, top } = before.current ?? { element: null, top: 0 };
    if (scroller.current === null || !element?.isConnected) return;
    scroller.current.scrollTop += element.getBoundingClientRect().top - top;
  }, [firstId]);
}

/**
 * Read the position of the first visible block of the first visible message. Blocks above it in the same message may have
 * no heights yet when the position is restored.
 * @param {HTMLElement} box
 * @returns {import("../state/conversation.js").ReadingPosition | null} null without a message
 */
function readPosition(box) {
  const top = topOf(box);
  const message = firstBelow(box.querySelectorAll("article"), top);
  if (message === undefined) return null;
  const child = firstBelow(message.querySelectorAll(":scope > .markdown > *"), top);
  const block = child?.matches(".chunk") ? firstBelow(child.children, top) : child;
  if (block === undefined) return { messageId: message.id, block: null, offset: topOf(message) - top };
  return { messageId: message.id, block: blocksOf(message).indexOf(block), offset: topOf(block) - top };
}

/**
 * Scroll to a position. Returns whether its message exists: a block comes later where a long text is rendered in slices.
 * @param {HTMLElement} box
 * @param {import("../state/conversation.js").ReadingPosition | null} position
 */
function restorePosition(box, position) {
  const message = position === null ? null : document.getElementById(position.messageId);
  if (position === null || message === null) return false;
  giveHeight(message);
  const block = position.block === null ? undefined : blocksOf(message)[position.block];
  const chunk = block?.closest(".chunk");
  if (chunk instanceof HTMLElement) giveHeight(chunk);
  box.scrollTop += topOf(block ?? message) - topOf(box) - position.offset;
  return true;
}

/** The blocks of a message's text, in order. @param {Element} message */
function blocksOf(message) {
  return [...message.querySelectorAll(":scope > .markdown > :not(.chunk), :scope > .markdown > .chunk > *")];
}

/**
 * Give an element its own height although it is out of view: with the height of the style sheet it ends above a position
 * deep inside, never comes into view and never gets its own.
 * @param {HTMLElement} element
 */
function giveHeight(element) {
  element.style.contentVisibility = "visible";
}

/**
 * Find the first element that is not above a line, or else the last one.
 * @param {Iterable<Element>} elements in the order of their positions
 * @param {number} top
 */
function firstBelow(elements, top) {
  const all = [...elements];
  return all.find((element) => element.getBoundingClientRect().bottom > top) ?? all.at(-1);
}

/** @param {Element} element */
function topOf(element) {
  return element.getBoundingClientRect().top;
}
