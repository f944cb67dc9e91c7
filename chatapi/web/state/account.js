// The key, and the server's configuration, models and prices.
import { strings } from "../strings.js";
import { Observable } from "./observable.js";
import { tabStorage } from "./storage.js";

/**
 * @typedef {import("../api/client.js").Api} Api
 * @typedef {import("../types.d.ts").Config} Config
 * @typedef {import("../types.d.ts").Prices} Prices
 */

const KEY = "chatapi.key";
const OWN_KEY = "chatapi.own-key"; // set while this tab must not take the key of the others

export class Account extends Observable {
  /** @type {Config | null} */
  config = null;
  /** @type {Prices} */
  prices = { as_of: null, currency: null, models: {} };
  /** The ids of the models that the key may use; empty until they are loaded. @type {string[]} */
  models = [];

  #api;

  /** @param {Api} api */
  constructor(api) {
    super();
    this.#api = api;
  }

  get hasKey() {
    return this.#api.key !== null;
  }

  /**
   * Load the server's configuration, and use the stored key if there is one.
   * @throws {import("../api/client.js").ApiError | import("../api/client.js").NetworkError}
   */
  async load() {
    this.config = await this.#api.config();
    const stored = tabStorage.get(KEY);
    if (stored !== null && this.keyFormatError(stored) === null) this.#api.key = stored;
    this.changed();
  }

  /**
   * Check the format of a key. Returns a sentence that names the fault, or null.
   * @param {string} key
   */
  keyFormatError(key) {
    const { pattern, prefix, length } = this.config?.key ?? { pattern: ".+", prefix: null, length: null };
    if (matches(pattern, key)) return null;
    if (prefix === null || length === null) return strings.key.badForm;
    if (!prefix.startsWith(key.slice(0, prefix.length))) return strings.key.badPrefix(prefix);
    if (/[^A-Za-z0-9_-]/.test(key)) return strings.key.badCharacter;
    return strings.key.badLength(key.length, length);
  }

  /**
   * @param {string} key in the right format
   * @param {boolean} remember whether to store it until the tab is closed, and to share it with other tabs
   */
  useKey(key, remember) {
    this.#api.key = key;
    tabStorage.set(KEY, remember ? key : null);
    tabStorage.set(OWN_KEY, null);
    this.changed();
  }

  /** The key, if the user wants it to be remembered. Other tabs of this browser may have it. */
  get sharedKey() {
    return this.#api.key !== null && tabStorage.get(KEY) === this.#api.key ? this.#api.key : null;
  }

  /** Whether this tab takes the key that another tab remembers. */
  get wantsSharedKey() {
    return !this.hasKey && this.config !== null && tabStorage.get(OWN_KEY) === null;
  }

  /**
   * Remove the stored key. The page still holds it in memory and must be reloaded.
   * @param {boolean} wantsOther whether the user wants to enter another key in this tab
   */
  forgetKey(wantsOther) {
    tabStorage.set(KEY, null);
    tabStorage.set(OWN_KEY, wantsOther ? "yes" : null);
  }

  /** Load the models and their prices. A failure is ignored: the user can type a model's name. */
  async loadModels() {
    const [models, prices] = await Promise.allSettled([this.#api.models(), this.#api.prices()]);
    if (models.status === "fulfilled") this.models = models.value;
    if (prices.status === "fulfilled") this.prices = prices.value;
    this.changed();
  }
}

/**
 * @param {string} pattern in Python's syntax; if JavaScript cannot compile it, only the server checks the key
 * @param {string} key
 */
function matches(pattern, key) {
  try {
    return new RegExp(`^(?:${pattern})$`, "u").test(key);
  } catch {
    return key !== "";
  }
}
