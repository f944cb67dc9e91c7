// Where the keyboard goes when what had it is gone.

/** Whether keys are on the screen: there they come up with the focus, and Enter is for lines. */
export const isTouch = () => matchMedia("(pointer: coarse)").matches;

/** Let the person go on writing. */
export function focusComposer() {
  if (!isTouch()) document.getElementById("composer")?.focus();
}
