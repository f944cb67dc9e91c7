// The models that the user prefers: favourites and the last ones that answered. They are kept in this browser.
import { Observable } from "./observable.js";
import { localStore } from "./storage.js";

const STORED = "chatapi.models";
const LAST_MODEL = "chatapi.model"; // the default of a new session
const MAX_USED = 5;

class ModelChoice extends Observable {
  /** @type {string[]} */
  favourites = [];
  /** The last one first. @type {string[]} */
  used = [];

  constructor() {
    super();
    try {
      const { favourites, used } = JSON.parse(localStore.get(STORED) ?? "{}");
      this.favourites = onlyNames(favourites);
      this.used = onlyNames(used);
    } catch {
      // Not ours, or damaged: start without.
    }
  }

  /** The model of a new session; "" is the server's default. */
  get last() {
    return localStore.get(LAST_MODEL) ?? "";
  }

  /** @param {string} model */
  toggleFavourite(model) {
    const others = this.favourites.filter((one) => one !== model);
    this.favourites = others.length === this.favourites.length ? [...others, model] : others;
    this.#save();
  }

  /**
   * Remember a model that has answered.
   * @param {string} model "" for the server's default
   */
  remember(model) {
    localStore.set(LAST_MODEL, model);
    if (model !== "") this.used = [model, ...this.used.filter((one) => one !== model)].slice(0, MAX_USED);
    this.#save();
  }

  forget() {
    localStore.set(LAST_MODEL, null);
    [this.favourites, this.used] = [[], []];
    this.#save();
  }

  #save() {
    const { favourites, used } = this;
    localStore.set(STORED, favourites.length + used.length ? JSON.stringify({ favourites, used }) : null);
    this.changed();
  }
}

/** @param {unknown} list @returns {string[]} */
function onlyNames(list) {
  return Array.isArray(list) ? list.filter((one) => typeof one === "string") : [];
}

export const modelChoice = new ModelChoice();
