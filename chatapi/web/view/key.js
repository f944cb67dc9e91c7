// Where the key is asked for, before anything else.
import { html, useState } from "../vendor/htm-preact.js";
import { sentence } from "../chat.js";
import { useWatch } from "../observable.js";
import { strings } from "../strings.js";
import { useId } from "./id.js";

/** @typedef {{kind: "good" | "bad" | "neutral", text: string}} Verdict */

/** @param {{chat: import("../chat.js").Chat}} properties */
export function KeyPage({ chat }) {
  const { account } = chat;
  useWatch(account);
  const [key, setKey] = useState(account.config?.demo_key ?? "");
  const [shown, setShown] = useState(false);
  const [remember, setRemember] = useState(account.config?.demo ?? false); // a key that is made up is no secret
  const [tested, setTested] = useState(/** @type {{key: string, verdict: Verdict} | null} */ (null));
  const [testing, setTesting] = useState(false);
  const id = useId();

  const trimmed = key.trim();
  const complaint = account.complaintAbout(trimmed);
  const verdict = tested?.key === trimmed ? tested.verdict : formVerdict(trimmed, complaint);

  const type = (/** @type {InputEvent} */ event) => setKey(/** @type {HTMLInputElement} */ (event.target).value);
  const test = async () => {
    setTesting(true);
    setTested({ key: trimmed, verdict: await verdictOf(chat, trimmed) });
    setTesting(false);
  };
  const begin = (/** @type {Event} */ event) => {
    event.preventDefault();
    if (complaint === null) chat.enter(trimmed, remember);
  };

  return html`<main class="key-page">
    <form class="card" onSubmit=${begin} autocomplete="off">
      <h1>${strings.key.heading}</h1>
      <p>${account.config?.demo ? strings.key.demo : strings.key.lead}</p>
      <label for="${id}-key">${strings.key.label}</label>
      <div class="field-row">
        <input
          id="${id}-key"
          type=${shown ? "text" : "password"}
          value=${key}
          onInput=${type}
          placeholder=${strings.key.placeholder}
          autocomplete="off"
          autocapitalize="off"
          spellcheck=${false}
          aria-describedby="${id}-verdict"
          aria-invalid=${trimmed !== "" && complaint !== null}
          autofocus
        />
        <button type="button" class="plain" onClick=${() => setShown(!shown)}>
          ${shown ? strings.key.hide : strings.key.show}
        </button>
      </div>
      <p id="${id}-verdict" class="verdict ${verdict.kind}" role="status">${verdict.text}</p>
      <label class="check">
        <input type="checkbox" checked=${remember} onChange=${() => setRemember(!remember)} />
        ${strings.key.remember}
      </label>
      <div class="buttons">
        <button type="button" onClick=${test} disabled=${complaint !== null || testing}>
          ${testing ? strings.key.testing : strings.key.test}
        </button>
        <button type="submit" class="primary" disabled=${complaint !== null}>${strings.key.begin}</button>
      </div>
    </form>
  </main>`;
}

/**
 * What the server says of a key, or why it says nothing.
 * @param {import("../chat.js").Chat} chat
 * @param {string} key
 * @returns {Promise<Verdict>}
 */
async function verdictOf(chat, key) {
  try {
    const { valid, message } = await chat.api.testKey(key);
    return { kind: valid ? "good" : "bad", text: message };
  } catch (error) {
    return { kind: "bad", text: sentence(error) };
  }
}

/**
 * @param {string} key
 * @param {string | null} complaint about its form
 * @returns {Verdict}
 */
function formVerdict(key, complaint) {
  if (key === "") return { kind: "neutral", text: "" };
  return complaint === null ? { kind: "good", text: strings.key.wellFormed } : { kind: "neutral", text: complaint };
}
