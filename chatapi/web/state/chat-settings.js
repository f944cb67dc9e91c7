// The settings of one session: model and parameters. They are stored in the session's metadata, so that every device
// and client finds them.
import { modelChoice } from "./model-choice.js";

/** @typedef {import("../types.d.ts").ChatSettings} ChatSettings */

const PREFIX = "chat."; // of the names in the metadata

/** @type {(keyof ChatSettings)[]} */
const NAMES = ["model", "temperature", "top_p", "max_completion_tokens", "reasoning_effort", "seed"];
const NUMBERS = new Set(["temperature", "top_p", "max_completion_tokens", "seed"]);

/** The settings of one session. Changes are saved one after the other. */
export class SessionSettings {
  /** @type {ChatSettings} */
  values = { ...emptySettings(), model: modelChoice.last };
  /** Resolves when all changes so far were saved: whether the last one succeeded. @type {Promise<boolean>} */
  saved = Promise.resolve(true);

  #editMetadata;

  /** @param {(edit: (metadata: Record<string, string>) => Record<string, string>) => Promise<boolean>} editMetadata */
  constructor(editMetadata) {
    this.#editMetadata = editMetadata;
  }

  /** @returns {Promise<boolean>} whether it succeeded */
  save() {
    this.saved = this.saved.then(() => this.#editMetadata((metadata) => withSettings(metadata, this.values)));
    return this.saved;
  }
}

/**
 * @param {Record<string, string>} metadata
 * @returns {ChatSettings}
 */
export function readSettings(metadata) {
  const settings = emptySettings();
  for (const name of NAMES) settings[name] = metadata[PREFIX + name] ?? "";
  return settings;
}

/**
 * Return a copy of the metadata with these settings. Other entries stay as they are.
 * @param {Record<string, string>} metadata
 * @param {ChatSettings} settings
 */
function withSettings(metadata, settings) {
  const others = Object.entries(metadata).filter(([name]) => !name.startsWith(PREFIX));
  const ours = NAMES.filter((name) => settings[name] !== "").map((name) => [PREFIX + name, settings[name]]);
  return Object.fromEntries([...others, ...ours]);
}

/**
 * Convert settings to request fields. Text that is not a number is sent as it is: the server's error names the fault.
 * @param {ChatSettings} settings
 * @returns {Record<string, string | number>}
 */
export function requestFields(settings) {
  /** @type {Record<string, string | number>} */
  const fields = {};
  for (const name of NAMES) {
    const value = settings[name].trim();
    if (value === "") continue;
    const number = Number(value);
    fields[name] = NUMBERS.has(name) && Number.isFinite(number) ? number : value;
  }
  return fields;
}

/** @returns {ChatSettings} */
export function emptySettings() {
  return { model: "", temperature: "", top_p: "", max_completion_tokens: "", reasoning_effort: "", seed: "" };
}
