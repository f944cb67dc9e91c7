// The card about an error: the event, the text that is kept, one next step, and the time until it makes sense.
import { strings } from "../strings.js";
import { html, useEffect, useState } from "../vendor/htm-preact.js";
import { Icon, IconButton } from "./icons.js";

/** @typedef {{label: string, act: () => void, disabled?: boolean}} Step */

/**
 * @param {object} properties
 * @param {string} properties.text the event and its reason
 * @param {string} [properties.heading]
 * @param {string} [properties.kept]
 * @param {Step | null} [properties.step]
 * @param {number | null} [properties.wait] seconds until the step can succeed
 * @param {() => void} [properties.onDismiss]
 * @param {boolean} [properties.mild] whether it is a warning, not a failure
 * @param {"alert" | "status" | null} [properties.role] null if it is not announced
 */
export function Notice({ text, heading, kept, step = null, wait = null, onDismiss, mild = false, role = "alert" }) {
  const left = useCountdown(wait);
  return html`<div class="notice ${mild ? "mild" : ""}" role=${role ?? undefined}>
    <${Icon} name="warning" />
    <div class="notice-text">
      ${heading && html`<p><b>${heading}</b></p>`}
      <p>${text}</p>
      ${kept && html`<p class="kept">${kept}</p>`}
    </div>
    <div class="actions">
      ${step !== null &&
      html`<button type="button" disabled=${step.disabled} onClick=${step.act}>
        ${step.label}${left > 0 && html`<span aria-hidden="true">${strings.inSeconds(left)}</span>`}
      </button>`}
    </div>
    ${onDismiss && html`<${IconButton} icon="close" label=${strings.dismiss} onClick=${onDismiss} />`}
  </div>`;
}

/**
 * The seconds that are left of a wait.
 * @param {number | null} wait
 */
function useCountdown(wait) {
  const [left, setLeft] = useState(wait ?? 0);
  useEffect(() => {
    const end = Date.now() + (wait ?? 0) * 1000;
    const show = () => setLeft(Math.max(0, Math.ceil((end - Date.now()) / 1000)));
    show();
    if (!wait) return;
    const timer = setInterval(show, 1000);
    return () => clearInterval(timer);
  }, [wait]);
  return left;
}
