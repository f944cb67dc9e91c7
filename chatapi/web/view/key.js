// The page that asks for the key.
import { html, useState } from "../vendor/htm-preact.js";
import { errorText } from "../error-text.js";
import { useWatch } from "../state/observable.js";
import { strings } from "../strings.js";
import { Icon } from "./icons.js";
import { useId } from "./id.js";

/** @typedef {{kind: "good" | "bad" | "neutral", text: string}} CheckResult */

/** @param {{chat: import("../state/chat.js").Chat}} properties */
export function KeyPage({ chat }) {
  const { account } = chat;
  useWatch(account);
  const [key, setKey] = useState(account.config?.demo_key ?? "");
  const [shown, setShown] = useState(false);
  const [remember, setRemember] = useState(account.config?.demo ?? false); // a demo key is not secret
  const [tested, setTested] = useState(/** @type {{key: string, result: CheckResult} | null} */ (null));
  const [testing, setTesting] = useState(false);
  const id = useId();

  const trimmed = key.trim();
  const formatError = account.keyFormatError(trimmed);
  const result = tested?.key === trimmed ? tested.result : formatResult(trimmed, formatError);

  const onInput = (/** @type {InputEvent} */ event) => setKey(/** @type {HTMLInputElement} */ (event.target).value);
  const test = async () => {
    setTesting(true);
    setTested({ key: trimmed, result: await testKey(chat, trimmed) });
    setTesting(false);
  };
  const onSubmit = (/** @type {Event} */ event) => {
    event.preventDefault();
    if (formatError === null) chat.useKey(trimmed, remember);
  };

  // The hidden field is for password managers, which store a password under a user name.
  return html`<main class="key-page">
    <form class="card" onSubmit=${onSubmit}>
      <${Icon} name="key" />
      <h1>${strings.key.heading}</h1>
      <p>${account.config?.demo ? strings.key.demo : strings.key.lead}</p>
      <input type="text" name="username" autocomplete="username" value=${strings.key.label} hidden readonly />
      <label for="${id}-key">${strings.key.label}</label>
      <div class="field-row">
        <input
          id="${id}-key"
          name="password"
          type=${shown ? "text" : "password"}
          value=${key}
          onInput=${onInput}
          placeholder=${strings.key.placeholder}
          autocomplete="current-password"
          autocapitalize="off"
          spellcheck=${false}
          aria-describedby="${id}-result"
          aria-invalid=${trimmed !== "" && formatError !== null}
          autofocus
        />
        <button type="button" class="plain" onClick=${() => setShown(!shown)}>
          ${shown ? strings.key.hide : strings.key.show}
        </button>
      </div>
      <p id="${id}-result" class="key-check ${result.kind}" role="status">${result.text}</p>
      <label class="check">
        <input type="checkbox" checked=${remember} onChange=${() => setRemember(!remember)} />
        ${strings.key.remember}
      </label>
      <div class="buttons">
        <button type="button" onClick=${test} disabled=${formatError !== null || testing}>
          ${testing ? strings.key.testing : strings.key.test}
        </button>
        <button type="submit" class="primary" disabled=${formatError !== null}>${strings.key.begin}</button>
      </div>
    </form>
  </main>`;
}

/**
 * Ask the server whether the upstream accepts a key.
 * @param {import("../state/chat.js").Chat} chat
 * @param {string} key
 * @returns {Promise<CheckResult>}
 */
async function testKey(chat, key) {
  try {
    const { valid, message } = await chat.api.testKey(key);
    return { kind: valid ? "good" : "bad", text: message };
  } catch (error) {
    return { kind: "bad", text: errorText(error) };
  }
}

/**
 * @param {string} key
 * @param {string | null} formatError
 * @returns {CheckResult}
 */
function formatResult(key, formatError) {
  if (key === "") return { kind: "neutral", text: "" };
  return formatError === null ? { kind: "good", text: strings.key.wellFormed } : { kind: "neutral", text: formatError };
}
