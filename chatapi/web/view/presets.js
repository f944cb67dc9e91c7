// The presets in the settings of a chat: choose, save and delete.
import { emptySettings } from "../state/chat-settings.js";
import { useWatch } from "../state/observable.js";
import { MAX_NAME_CHARACTERS, presets } from "../state/presets.js";
import { strings } from "../strings.js";
import { html, useState } from "../vendor/htm-preact.js";
import { IconButton } from "./icons.js";
import { useId } from "./id.js";

/** @typedef {import("../state/presets.js").Preset} Preset */

/**
 * @param {{current: Omit<Preset, "name">, onChoose: (preset: Omit<Preset, "name">) => void}} properties
 *   `current` is what the form contains
 */
export function PresetPicker({ current, onChoose }) {
  useWatch(presets);
  const [name, setName] = useState("");
  const id = useId();
  const isSaved = presets.list.some((preset) => preset.name === name);
  const choose = (/** @type {Event} */ { target }) => {
    const chosen = presets.list.find((preset) => preset.name === /** @type {HTMLSelectElement} */ (target).value);
    if (chosen === undefined) return;
    setName(chosen.name);
    onChoose({ developerMessage: chosen.developerMessage, settings: { ...emptySettings(), ...chosen.settings } });
  };
  return html`<fieldset class="presets">
    <legend>${strings.settings.presets}</legend>
    ${presets.list.length > 0 &&
    html`<select aria-label=${strings.settings.choosePreset} value=${isSaved ? name : ""} onChange=${choose}>
      <option value="">${strings.settings.choosePreset}</option>
      ${presets.list.map((preset) => html`<option value=${preset.name}>${preset.name}</option>`)}
    </select>`}
    <input id=${id} type="text" dir="auto" maxlength=${MAX_NAME_CHARACTERS} aria-label=${strings.settings.presetName}
      placeholder=${strings.settings.presetName} value=${name}
      onInput=${(/** @type {Event} */ { target }) => setName(/** @type {HTMLInputElement} */ (target).value)} />
    <button type="button" disabled=${name.trim() === ""} onClick=${() => presets.save({ name: name.trim(), ...current })}>
      ${strings.settings.savePreset}
    </button>
    ${isSaved &&
    html`<${IconButton} icon="delete" label=${strings.settings.deletePreset(name)} onClick=${() => [presets.remove(name), setName("")]} />`}
  </fieldset>`;
}
