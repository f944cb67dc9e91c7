// A question before something that cannot be undone.
import { strings } from "../strings.js";
import { html } from "../vendor/htm-preact.js";
import { Dialog } from "./dialog.js";

/** @param {{heading: string, text: string, action: string, onConfirm: () => void, onClose: () => void}} properties */
export function Confirm({ heading, text, action, onConfirm, onClose }) {
  return html`<${Dialog} heading=${heading} onClose=${onClose} class="confirm">
    <p>${text}</p>
    <div class="buttons">
      <button type="button" onClick=${onClose} autofocus>${strings.cancel}</button>
      <button type="button" class="danger" onClick=${() => [onClose(), onConfirm()]}>${action}</button>
    </div>
  <//>`;
}
