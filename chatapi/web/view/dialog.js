// A dialog over the page: the browser's own, which keeps the focus in it and closes on Escape.
import { html, useLayoutEffect, useRef } from "../vendor/htm-preact.js";
import { strings } from "../strings.js";
import { focusComposer } from "./focus.js";
import { IconButton } from "./icons.js";

/**
 * @param {{heading: string, onClose: () => void, class?: string, children?: unknown}} properties
 */
export function Dialog({ heading, onClose, class: more = "", children }) {
  const dialog = useRef(/** @type {HTMLDialogElement | null} */ (null));
  useLayoutEffect(() => {
    const before = document.activeElement;
    const shown = dialog.current;
    shown?.showModal();
    return () => {
      shown?.close(); // while it is open, nothing outside takes the focus
      if (before instanceof HTMLElement && before !== document.body && before.isConnected) before.focus();
      else focusComposer();
    };
  }, []);
  // Not `click`: that is one outside also where a selection begins in the dialog and ends beside it.
  const outside = (/** @type {Event} */ event) => {
    if (event.target === dialog.current) onClose();
  };
  // A search box takes the first Escape for itself, and the person has to press it twice.
  const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "Escape" || event.isComposing) return;
    event.preventDefault();
    event.stopPropagation();
    onClose();
  };
  return html`<dialog
    ref=${dialog}
    class="dialog ${more}"
    aria-labelledby="dialog-heading"
    onClose=${onClose}
    onCancel=${onClose}
    onPointerDown=${outside}
    onKeyDown=${onKeyDown}
  >
    <div class="dialog-body">
      <div class="dialog-top">
        <h2 id="dialog-heading">${heading}</h2>
        <${IconButton} icon="close" label=${strings.close} onClick=${onClose} />
      </div>
      ${children}
    </div>
  </dialog>`;
}
