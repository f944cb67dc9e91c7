// Layers that open beside a button: menus and lists. They are in the browser's top layer, so that no box cuts them off.
import { useEffect, useLayoutEffect } from "../vendor/htm-preact.js";
import { isComposing } from "./composition.js";

const GAP = 4; // pixels between the button and the layer
const MARGIN = 8; // pixels between the layer and the edge of the window

/**
 * Show `layer` beside `button` while it is mounted, above it if there is more space. A press outside or Escape
 * closes it.
 * @param {boolean} open
 * @param {{current: HTMLElement | null}} button
 * @param {{current: HTMLElement | null}} layer an element with the attribute `popover="manual"`
 * @param {() => void} onClose
 */
export function usePopup(open, button, layer, onClose) {
  useLayoutEffect(() => {
    const [anchor, box] = [button.current, layer.current];
    if (!open || anchor === null || box === null) return;
    box.showPopover();
    place(anchor, box);
    const observer = new ResizeObserver(() => place(anchor, box));
    observer.observe(box);
    observer.observe(document.documentElement);
    return () => observer.disconnect();
  }, [open]);
  useEffect(() => {
    if (!open) return;
    const closeFromOutside = (/** @type {Event} */ event) => {
      const target = /** @type {Node} */ (event.target);
      if (!layer.current?.contains(target) && !button.current?.contains(target)) onClose();
    };
    // Wherever the focus is: it is on no element after the focused one was removed.
    const closeOnEscape = (/** @type {KeyboardEvent} */ event) => {
      if (event.key !== "Escape" || isComposing(event)) return;
      event.preventDefault();
      event.stopPropagation();
      onClose();
      button.current?.focus();
    };
    addEventListener("pointerdown", closeFromOutside);
    addEventListener("keydown", closeOnEscape, { capture: true });
    return () => {
      removeEventListener("pointerdown", closeFromOutside);
      removeEventListener("keydown", closeOnEscape, { capture: true });
    };
  }, [open]);
}

/** @param {HTMLElement} anchor @param {HTMLElement} box */
function place(anchor, box) {
  const { top, bottom, left, right } = anchor.getBoundingClientRect();
  const below = innerHeight - bottom - GAP - MARGIN;
  const above = top - GAP - MARGIN;
  box.style.maxHeight = "";
  const isBelow = box.offsetHeight <= below || below >= above;
  box.style.maxHeight = `${Math.max(below, above)}px`;
  box.style.top = isBelow ? `${bottom + GAP}px` : `${Math.max(MARGIN, top - GAP - box.offsetHeight)}px`;
  const alignsLeft = left + box.offsetWidth <= innerWidth - MARGIN;
  box.style.left = `${Math.max(MARGIN, alignsLeft ? left : right - box.offsetWidth)}px`;
}

/**
 * Move the focus among elements with the arrow keys, Home and End. Returns whether the key did.
 * @param {KeyboardEvent} event
 * @param {HTMLElement[]} elements
 */
export function moveFocus(event, elements) {
  const at = elements.indexOf(/** @type {HTMLElement} */ (document.activeElement));
  const last = elements.length - 1;
  /** @type {Record<string, number>} */
  const targets = { ArrowDown: at === last ? 0 : at + 1, ArrowUp: at <= 0 ? last : at - 1, Home: 0, End: last };
  if (!Object.hasOwn(targets, event.key) || last < 0) return false;
  elements[targets[event.key]].focus();
  return true;
}
