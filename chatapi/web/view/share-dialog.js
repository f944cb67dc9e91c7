// The dialog that makes and removes links with which anyone can read a chat.
import { copyText } from "../clipboard.js";
import { errorText } from "../error-text.js";
import { time } from "../format.js";
import { strings } from "../strings.js";
import { html, useEffect, useState } from "../vendor/htm-preact.js";
import { Dialog } from "./dialog.js";
import { IconButton } from "./icons.js";
import { useId } from "./id.js";
import { Notice } from "./notice.js";

/** @typedef {import("../types.d.ts").Share} Share */

const LIFETIMES = [1, 7, 30, 90]; // days

/** @param {{chat: import("../state/chat.js").Chat, sessionId: string, onClose: () => void}} properties */
export function ShareDialog({ chat, sessionId, onClose }) {
  const [days, setDays] = useState(7);
  const [shares, setShares] = useState(/** @type {Share[]} */ ([]));
  /** The link that was made here; its token is not shown again. */
  const [link, setLink] = useState("");
  const [copied, setCopied] = useState(false);
  const [error, setError] = useState(/** @type {unknown} */ (null));
  const id = useId();
  const attempt = async (/** @type {() => Promise<void>} */ act) => {
    setError(null);
    try {
      await act();
      setShares((await chat.api.shares(sessionId)).data);
    } catch (failure) {
      setError(failure);
    }
  };
  useEffect(() => void attempt(async () => {}), []);
  const create = () =>
    attempt(async () => {
      const { token } = await chat.api.createShare(sessionId, days);
      setLink(`${location.origin}/#/share/${token}`);
      setCopied(false);
    });
  const remove = (/** @type {Share} */ share) => attempt(() => chat.api.deleteShare(sessionId, share.id));
  return html`<${Dialog} heading=${strings.share.heading} onClose=${onClose} class="sharing">
    <p class="hint">${strings.share.lead}</p>
    <div class="row">
      <label for=${id}>${strings.share.lifetime}</label>
      <select id=${id} value=${String(days)} onChange=${(/** @type {Event} */ { target }) => setDays(Number(/** @type {HTMLSelectElement} */ (target).value))}>
        ${LIFETIMES.map((one) => html`<option value=${String(one)}>${strings.share.days(one)}</option>`)}
      </select>
      <button type="button" class="primary" onClick=${create}>${strings.share.create}</button>
    </div>
    ${link !== "" &&
    html`<div class="row">
      <input readonly dir="ltr" aria-label=${strings.share.link} value=${link} onFocus=${(/** @type {Event} */ { target }) => /** @type {HTMLInputElement} */ (target).select()} />
      <button type="button" onClick=${async () => setCopied(await copyText(link))}>${copied ? strings.copied : strings.copy}</button>
    </div>`}
    ${error !== null && html`<${Notice} text=${errorText(error)} />`}
    ${shares.length > 0 &&
    html`<h3>${strings.share.links}</h3>
      <ul>
        ${shares.map(
          (share) => html`<li key=${share.id}>
            <span>${strings.share.until(time(share.expires_at))}</span>
            <${IconButton} icon="delete" label=${strings.share.remove(time(share.expires_at))} onClick=${() => remove(share)} />
          </li>`,
        )}
      </ul>`}
  <//>`;
}
