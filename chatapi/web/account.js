// Whose chats these are: the key, where it is kept, and what the server told of itself.
import { Observable } from "./observable.js";
import { ofTab } from "./storage.js";
import { strings } from "./strings.js";

/**
 * @typedef {import("./api.js").Api} Api
 * @typedef {import("./types.d.ts").Config} Config
 * @typedef {import("./types.d.ts").Prices} Prices
 */

const KEY = "chatapi.key";

export class Account extends Observable {
  /** @type {Config | null} */
  config = null;
  /** @type {Prices} */
  prices = { as_of: null, currency: null, models: {} };
  /** The ids of models that the key may use; empty until they are known. @type {string[]} */
  models = [];

  #api;

  /** @param {Api} api */
  constructor(api) {
    super();
    this.#api = api;
  }

  /** Whether there is a key to work with. */
  get open() {
    return this.#api.key !== null;
  }

  /**
   * Learn what the server is, and go on with the key of before, if there is one.
   * @throws {import("./api.js").Problem | import("./api.js").Unreachable}
   */
  async begin() {
    this.config = await this.#api.config();
    const kept = ofTab.get(KEY);
    if (kept !== null && this.complaintAbout(kept) === null) this.#api.key = kept;
    this.changed();
  }

  /**
   * What is wrong with the form of a key, in a sentence; null where nothing is.
   * @param {string} key
   */
  complaintAbout(key) {
    const { pattern, prefix, length } = this.config?.key ?? { pattern: ".+", prefix: null, length: null };
    if (matches(pattern, key)) return null;
    if (prefix === null || length === null) return strings.key.badForm;
    if (!prefix.startsWith(key.slice(0, prefix.length))) return strings.key.badPrefix(prefix);
    if (/[^A-Za-z0-9_-]/.test(key)) return strings.key.badCharacter;
    return strings.key.badLength(key.length, length);
  }

  /**
   * @param {string} key of the right form
   * @param {boolean} remember until the tab is closed
   */
  use(key, remember) {
    this.#api.key = key;
    ofTab.set(KEY, remember ? key : null);
    this.changed();
  }

  /** The key is not kept any longer; the page that has it is to end. */
  forget() {
    ofTab.set(KEY, null);
  }

  /** Ask which models there are, and what they cost. It does no harm if nobody says: a name can be typed. */
  async learnModels() {
    const [models, prices] = await Promise.allSettled([this.#api.models(), this.#api.prices()]);
    if (models.status === "fulfilled") this.models = models.value;
    if (prices.status === "fulfilled") this.prices = prices.value;
    this.changed();
  }
}

/**
 * @param {string} pattern of Python's; where this language cannot read it, the server alone tells
 * @param {string} key
 */
function matches(pattern, key) {
  try {
    return new RegExp(`^(?:${pattern})$`, "u").test(key);
  } catch {
    return key !== "";
  }
}
