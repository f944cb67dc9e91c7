// The progress of an import, and the chats that could not be imported.
import { errorText } from "../error-text.js";
import { useWatch } from "../state/observable.js";
import { strings } from "../strings.js";
import { html } from "../vendor/htm-preact.js";
import { Dialog } from "./dialog.js";

/** @typedef {import("../state/importer.js").Importer} Importer */

/** @param {{importer: Importer, onClose: () => void}} properties */
export function ImportDialog({ importer, onClose }) {
  useWatch(importer);
  const { count, failures, failureCount, leftOut, progress, isOver, error } = importer;
  const texts = strings.importing;
  return html`<${Dialog} heading=${isOver ? texts.over : texts.heading} onClose=${onClose} class="importing">
    <p role="status">${texts.count(count)}</p>
    ${!isOver && html`<progress max="1" value=${progress} aria-label=${texts.heading}></progress>`}
    ${error !== null && html`<p class="bad" role="alert">${error === "file" ? texts.cut(importer.file.name) : errorText(error)} ${count > 0 && texts.kept}</p>`}
    ${leftOut > 0 && html`<p class="hint">${texts.leftOut(leftOut)}</p>`}
    ${failureCount > 0 &&
    html`<h3>${texts.failed(failureCount)}</h3>
      <ul class="failures" tabindex="0" aria-label=${texts.failed(failureCount)}>
        ${failures.map(({ name, reason }) => html`<li><bdi>${name}</bdi> <span>${reasonText(reason)}</span></li>`)}
      </ul>`}
    <div class="buttons">
      <button type="button" class=${isOver ? "primary" : ""} onClick=${onClose}>${isOver ? strings.close : strings.cancel}</button>
    </div>
  <//>`;
}

/** @param {import("../state/importer.js").Reason} reason */
function reasonText(reason) {
  return typeof reason === "string" ? strings.importing[reason] : errorText(reason);
}
