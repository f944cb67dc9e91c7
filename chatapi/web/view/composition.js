// Input methods, which compose a character from several keys.

const PROCESSED_BY_INPUT_METHOD = 229; // `keyCode` of a key that the input method handles (UI Events, section 7.3.1)

/**
 * Whether a key belongs to a composition and must be ignored. WebKit sends `compositionend` before the `keydown` of the
 * Enter key that ends the composition, so `isComposing` alone is not sufficient.
 * @param {KeyboardEvent} event
 */
export function isComposing(event) {
  return event.isComposing || event.keyCode === PROCESSED_BY_INPUT_METHOD;
}
