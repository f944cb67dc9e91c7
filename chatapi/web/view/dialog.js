// A modal dialog: the browser's own element, which keeps the focus inside.
import { html, useLayoutEffect, useRef } from "../vendor/htm-preact.js";
import { strings } from "../strings.js";
import { isComposing } from "./composition.js";
import { focusComposer } from "./focus.js";
import { IconButton } from "./icons.js";

/**
 * @param {{heading: string, onClose: () => void, class?: string, children?: unknown}} properties
 */
export function Dialog({ heading, onClose, class: more = "", children }) {
  const dialog = useRef(/** @type {HTMLDialogElement | null} */ (null));
  const isMounted = useRef(true); // the event of the last close comes after the element is gone
  const onCloseEvent = () => {
    if (isMounted.current) onClose();
  };
  useLayoutEffect(() => {
    const focused = document.activeElement;
    const element = dialog.current;
    element?.showModal();
    return () => {
      isMounted.current = false;
      element?.close(); // first: an open dialog lets nothing outside take the focus
      if (focused instanceof HTMLElement && focused !== document.body && focused.isConnected) focused.focus();
      else focusComposer();
    };
  }, []);
  // Not `click`, which also fires outside when a selection starts in the dialog and ends beside it.
  const onPointerDown = (/** @type {Event} */ event) => {
    if (event.target === dialog.current) onClose();
  };
  // A search field uses the first Escape to clear itself, so the dialog handles the key.
  const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "Escape" || isComposing(event)) return;
    event.preventDefault();
    event.stopPropagation();
    onClose();
  };
  return html`<dialog
    ref=${dialog}
    class="dialog ${more}"
    aria-labelledby="dialog-heading"
    onClose=${onCloseEvent}
    onCancel=${onCloseEvent}
    onPointerDown=${onPointerDown}
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
