// The settings dialog of a session: developer message and parameters.
import { html, useState } from "../vendor/htm-preact.js";
import { errorText } from "../error-text.js";
import { factsOf } from "../state/model-facts.js";
import { useWatch } from "../state/observable.js";
import { drafts } from "../state/storage.js";
import { strings } from "../strings.js";
import { Dialog } from "./dialog.js";
import { IconButton } from "./icons.js";
import { Notice } from "./notice.js";
import { useId } from "./id.js";
import { PresetPicker } from "./presets.js";

/**
 * @typedef {import("../state/chat.js").Chat} Chat
 * @typedef {import("../state/conversation.js").Conversation} Conversation
 * @typedef {import("../types.d.ts").ChatSettings} ChatSettings
 */

/** Bounds of a slider, and where it stands without a value. @typedef {{min: number, max: number, step: number, preset: number}} Range */

/** @param {{chat: Chat, conversation: Conversation, onClose: () => void}} properties */
export function SettingsDialog({ chat, conversation, onClose }) {
  useWatch(chat.account, conversation);
  const saved = conversation.session?.developer_message ?? conversation.developerMessage;
  const place = `${conversation.id ?? ""}.instructions`; // of the draft: it survives closing the dialog with Escape
  const [developerMessage, setDeveloperMessage] = useState(() => drafts.get(place) || saved);
  const [settings, setSettings] = useState(conversation.settings);
  const [error, setError] = useState(/** @type {Error | null} */ (null));
  const [isTemporary, setTemporary] = useState(conversation.isTemporary);
  const id = useId();
  const isUnfamiliar = factsOf(settings.model || (chat.account.config?.default_model ?? "")).context === null;
  const set = (/** @type {keyof ChatSettings} */ name, /** @type {string} */ value) => setSettings({ ...settings, [name]: value });
  const save = async (/** @type {Event} */ event) => {
    event.preventDefault();
    const isSaved =
      (developerMessage === saved || (await conversation.changeDeveloperMessage(developerMessage))) &&
      (isTemporary === conversation.isTemporary || (await conversation.changeTemporary(isTemporary))) &&
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
  const usePreset = (/** @type {Omit<import("../state/presets.js").Preset, "name">} */ preset) => {
    setDeveloperMessage(preset.developerMessage);
    drafts.set(place, preset.developerMessage);
    setSettings(preset.settings);
  };
  const discard = () => {
    drafts.set(place, "");
    onClose();
  };
  const field = (/** @type {keyof ChatSettings} */ name, /** @type {Range | null} */ range = null) =>
    html`<${Parameter} name=${name} value=${settings[name]} range=${range} onChange=${(/** @type {string} */ value) => set(name, value)} />`;

  return html`<${Dialog} heading=${strings.settings.heading} onClose=${onClose} class="settings">
    <form onSubmit=${save}>
      <${PresetPicker} current=${{ developerMessage, settings }} onChoose=${usePreset} />
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
      <label class="check"><input type="checkbox" aria-describedby="${id}-temporary-hint" checked=${isTemporary} onChange=${() => setTemporary(!isTemporary)} /> ${strings.settings.temporary}</label>
      <p class="hint" id="${id}-temporary-hint">${strings.settings.temporaryHint}</p>
      <fieldset class="parameters">
        <legend>${strings.settings.parameters}</legend>
        ${field("temperature", { min: 0, max: 2, step: 0.1, preset: 1 })}
        ${field("top_p", { min: 0, max: 1, step: 0.05, preset: 1 })}
        ${field("max_completion_tokens")}
        ${field("seed")}
        ${isUnfamiliar && html`<${Effort} value=${settings.reasoning_effort} onChange=${(/** @type {string} */ value) => set("reasoning_effort", value)} />`}
      </fieldset>
      ${error !== null && html`<${Notice} text=${errorText(error)} />`}
      <div class="buttons">
        <button type="button" onClick=${discard}>${strings.cancel}</button>
        <button type="submit" class="primary">${strings.save}</button>
      </div>
    </form>
  <//>`;
}

/**
 * A parameter: its value, a slider or a field, and a button that returns it to the model's default.
 * @param {{name: keyof ChatSettings, value: string, range: Range | null, onChange: (value: string) => void}} properties
 */
function Parameter({ name, value, range, onChange }) {
  const id = useId();
  const texts = /** @type {Record<string, string>} */ (/** @type {unknown} */ (strings.settings));
  const onInput = (/** @type {Event} */ event) => onChange(/** @type {HTMLInputElement} */ (event.target).value);
  const input = { id, value: value === "" && range ? String(range.preset) : value, "aria-describedby": `${id}-hint`, onInput };
  return html`<div class="parameter ${value === "" ? "unset" : ""}">
    <label for=${id}>${texts[name]}</label>
    ${range !== null && html`<output for=${id}>${value === "" ? strings.settings.preset : value}</output>`}
    <span class="reset">
      ${value !== "" && html`<${IconButton} icon="regenerate" label=${strings.settings.reset(texts[name])} onClick=${() => onChange("")} />`}
    </span>
    ${range === null
      ? html`<input type="number" min=${name === "seed" ? undefined : "1"} step="1" placeholder=${strings.settings.preset} ...${input} />`
      : html`<input type="range" min=${range.min} max=${range.max} step=${range.step} ...${input} />`}
    <p class="hint" id="${id}-hint">${texts[`${name}Hint`]}</p>
  </div>`;
}

/** The effort for a model that the page does not know. @param {{value: string, onChange: (value: string) => void}} properties */
function Effort({ value, onChange }) {
  const id = useId();
  const onInput = (/** @type {Event} */ event) => onChange(/** @type {HTMLSelectElement} */ (event.target).value);
  return html`<div class="parameter">
    <label for=${id}>${strings.settings.reasoning_effort}</label>
    <select id=${id} value=${value} aria-describedby="${id}-hint" onChange=${onInput}>
      <option value="">${strings.settings.preset}</option>
      ${Object.entries(strings.models.efforts).map(([effort, label]) => html`<option value=${effort}>${label}</option>`)}
    </select>
    <p class="hint" id="${id}-hint">${strings.settings.reasoning_effortHint}</p>
  </div>`;
}
