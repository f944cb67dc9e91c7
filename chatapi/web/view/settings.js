// The settings dialog of a session: developer message, model and parameters.
import { html, useEffect, useState } from "../vendor/htm-preact.js";
import { errorText } from "../error-text.js";
import { useWatch } from "../state/observable.js";
import { drafts } from "../state/storage.js";
import { strings } from "../strings.js";
import { Dialog } from "./dialog.js";
import { useId } from "./id.js";

/**
 * @typedef {import("../state/chat.js").Chat} Chat
 * @typedef {import("../state/conversation.js").Conversation} Conversation
 * @typedef {import("../types.d.ts").ChatSettings} ChatSettings
 */

const EFFORTS = ["minimal", "low", "medium", "high"];

/** @param {{chat: Chat, conversation: Conversation, onClose: () => void}} properties */
export function SettingsDialog({ chat, conversation, onClose }) {
  useWatch(chat.account, conversation);
  const saved = conversation.session?.developer_message ?? conversation.developerMessage;
  const place = `${conversation.id ?? ""}.instructions`; // of the draft: it survives closing the dialog with Escape
  const [developerMessage, setDeveloperMessage] = useState(() => drafts.get(place) || saved);
  const [settings, setSettings] = useState(conversation.settings);
  const [error, setError] = useState(/** @type {Error | null} */ (null));
  const id = useId();
  useEffect(() => {
    if (chat.account.models.length === 0) void chat.account.loadModels();
  }, []);

  const { models } = chat.account;
  const isUnknown = settings.model !== "" && models.length > 0 && !models.includes(settings.model);
  const set = (/** @type {keyof ChatSettings} */ name) => (/** @type {Event} */ event) =>
    setSettings({ ...settings, [name]: /** @type {HTMLInputElement} */ (event.target).value });
  const save = async (/** @type {Event} */ event) => {
    event.preventDefault();
    const isSaved =
      (developerMessage === saved || (await conversation.changeDeveloperMessage(developerMessage))) &&
      (await conversation.changeSettings(settings));
    if (!isSaved) setError(conversation.error); // shown here instead of behind the dialog
    conversation.dismissError();
    if (isSaved) discard();
  };
  const onInput = (/** @type {InputEvent} */ event) => {
    const { value } = /** @type {HTMLTextAreaElement} */ (event.target);
    setDeveloperMessage(value);
    drafts.set(place, value);
  };
  const discard = () => {
    drafts.set(place, "");
    onClose();
  };
  const number = (/** @type {keyof ChatSettings} */ name, /** @type {Record<string, string>} */ bounds) => html`<label>
    ${strings.settings[/** @type {"seed"} */ (name)]}
    <input type="number" ...${bounds} value=${settings[name]} onInput=${set(name)} />
  </label>`;

  return html`<${Dialog} heading=${strings.settings.heading} onClose=${onClose} class="settings">
    <form onSubmit=${save}>
      <label for="${id}-developer">${strings.settings.developerMessage}</label>
      <textarea
        id="${id}-developer"
        dir="auto"
        rows="6"
        autofocus
        aria-describedby="${id}-developer-hint"
        value=${developerMessage}
        onInput=${onInput}
      ></textarea>
      <p class="hint" id="${id}-developer-hint">${strings.settings.developerHint}</p>
      <label for="${id}-model">${strings.settings.model}</label>
      <input
        id="${id}-model"
        list="${id}-models"
        autocomplete="off"
        spellcheck=${false}
        placeholder=${chat.account.config?.default_model}
        aria-describedby="${id}-model-hint"
        value=${settings.model}
        onInput=${set("model")}
      />
      <datalist id="${id}-models">${chat.account.models.map((model) => html`<option value=${model}></option>`)}</datalist>
      <p class="hint" id="${id}-model-hint">${isUnknown ? strings.settings.unknownModel : strings.settings.modelHint}</p>
      <fieldset>
        <legend>${strings.settings.parameters}</legend>
        <p class="hint">${strings.settings.parametersHint}</p>
        ${number("temperature", { min: "0", max: "2", step: "any" })}
        ${number("top_p", { min: "0", max: "1", step: "any" })}
        ${number("max_completion_tokens", { min: "1", step: "1" })}
        ${number("seed", { step: "1" })}
        <label>
          ${strings.settings.reasoning_effort}
          <select value=${settings.reasoning_effort} onChange=${set("reasoning_effort")}>
            <option value="">${strings.settings.unset}</option>
            ${EFFORTS.map((effort) => html`<option value=${effort}>${effort}</option>`)}
          </select>
        </label>
      </fieldset>
      ${error !== null && html`<p class="notice" role="alert">${errorText(error)}</p>`}
      <div class="buttons">
        <button type="button" onClick=${discard}>${strings.cancel}</button>
        <button type="submit" class="primary">${strings.save}</button>
      </div>
    </form>
  <//>`;
}
