// The scroll position of a conversation.
import { useLayoutEffect, useRef, useState } from "../vendor/htm-preact.js";

/** @typedef {import("../state/conversation.js").Conversation} Conversation */

const NEAR_END_PIXELS = 60; // a reader who is this close to the end follows new text

/**
 * Keep the end of the conversation in view while the reader is there; otherwise keep the position.
 * @param {Conversation} conversation
 */
export function useFollowEnd(conversation) {
  const scroller = useRef(/** @type {HTMLDivElement | null} */ (null));
  const content = useRef(/** @type {HTMLDivElement | null} */ (null));
  const following = useRef(true);
  const [atEnd, setAtEnd] = useState(true);
  const scrollToEnd = () => {
    following.current = true;
    const box = scroller.current;
    if (box !== null) box.scrollTop = box.scrollHeight;
  };
  useLayoutEffect(() => {
    const box = scroller.current;
    if (box === null || content.current === null) return;
    scrollToEnd();
    let top = box.scrollTop;
    const onScroll = () => {
      const isNear = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_END_PIXELS;
      // Growing content moves the end away from a reader who has not moved: only scrolling up stops following.
      const isUp = box.scrollTop < top;
      top = box.scrollTop;
      if (!isNear && !isUp && following.current) return;
      following.current = isNear;
      setAtEnd(isNear);
    };
    const onResize = new ResizeObserver(() => {
      if (following.current) box.scrollTop = box.scrollHeight;
    });
    onResize.observe(content.current);
    onResize.observe(box);
    box.addEventListener("scroll", onScroll, { passive: true });
    return () => {
      onResize.disconnect();
      box.removeEventListener("scroll", onScroll);
    };
  }, [conversation]);
  // A message that was just sent is shown.
  useLayoutEffect(scrollToEnd, [conversation.answer]);
  const stopFollowing = () => {
    following.current = false;
  };
  return { scroller, content, atEnd, scrollToEnd, stopFollowing };
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
