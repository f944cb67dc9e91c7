// The focus after the element that had it is gone.

/** Whether the keyboard is on the screen: it appears with the focus, and Enter inserts a line. */
export const isTouch = () => matchMedia("(pointer: coarse)").matches;

/** Focus the message box, except on touch screens. */
export function focusComposer() {
  if (!isTouch()) document.getElementById("composer")?.focus();
}
