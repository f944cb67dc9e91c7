// Other tabs of this browser with the same page: which sessions change, and the key that they share.

/**
 * @typedef {object} TabMessage
 * @property {string | null} [changed] id of a session that the sending tab has changed
 * @property {boolean} [keyWanted] the sending tab has no key
 * @property {string} [key] the remembered key, when the user enters it and in reply to `keyWanted`
 * @property {string} [forgottenKey] the user has removed this key from the browser
 */

export class Tabs {
  #channel = new BroadcastChannel("chatapi");

  /** @param {(message: TabMessage) => void} onMessage */
  constructor(onMessage) {
    this.#channel.onmessage = ({ data }) => onMessage(data);
  }

  /** @param {TabMessage} message */
  send(message) {
    this.#channel.postMessage(message);
  }
}
