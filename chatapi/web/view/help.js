// The dialog that lists the keyboard shortcuts.
import { html } from "../vendor/htm-preact.js";
import { strings } from "../strings.js";
import { Dialog } from "./dialog.js";

/** @param {{onClose: () => void}} properties */
export function Help({ onClose }) {
  return html`<${Dialog} heading=${strings.help.heading} onClose=${onClose}>
    <dl class="keys">
      ${strings.help.keys.map(
        ([keys, does]) => html`<div>
          <dt>${keys.split(" ").map((key) => html`<kbd>${key}</kbd> `)}</dt>
          <dd>${does}</dd>
        </div>`,
      )}
    </dl>
    <p><a href="/docs" target="_blank" rel="noopener">${strings.help.reference}</a></p>
  <//>`;
}
