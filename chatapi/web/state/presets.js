// Presets: developer messages with a model and parameters, by name. They are kept in this browser.
import { Observable } from "./observable.js";
import { localStore } from "./storage.js";

/** @typedef {import("../types.d.ts").ChatSettings} ChatSettings */
/** @typedef {{name: string, developerMessage: string, settings: ChatSettings}} Preset */

const STORED = "chatapi.presets";
const MAX_PRESETS = 50;
export const MAX_NAME_CHARACTERS = 80;

class Presets extends Observable {
  /** In the order of their names. @type {Preset[]} */
  list = [];

  constructor() {
    super();
    try {
      const list = JSON.parse(localStore.get(STORED) ?? "[]");
      this.list = list.filter(isPreset);
    } catch {
      // Not ours, or damaged: start without.
    }
  }

  /** Save a preset, in place of the one with its name. Beyond the limit, the last one is dropped. @param {Preset} preset */
  save(preset) {
    const others = this.list.filter(({ name }) => name !== preset.name).slice(0, MAX_PRESETS - 1);
    this.list = [...others, preset].sort((one, other) => one.name.localeCompare(other.name));
    this.#store();
  }

  /** @param {string} name */
  remove(name) {
    this.list = this.list.filter((preset) => preset.name !== name);
    this.#store();
  }

  forget() {
    this.list = [];
    this.#store();
  }

  #store() {
    localStore.set(STORED, this.list.length ? JSON.stringify(this.list) : null);
    this.changed();
  }
}

/** @param {any} value */
function isPreset(value) {
  const { name, developerMessage, settings } = value ?? {};
  const isText = [name, developerMessage].every((one) => typeof one === "string");
  return isText && typeof settings === "object" && settings !== null && Object.values(settings).every((one) => typeof one === "string");
}

export const presets = new Presets();
