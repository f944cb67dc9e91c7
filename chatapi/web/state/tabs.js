// Other tabs of this browser with the same page.

export class Tabs {
  #channel = new BroadcastChannel("chatapi");

  /** @param {(id: string | null) => void} onChange called after another tab has changed a session */
  constructor(onChange) {
    this.#channel.onmessage = ({ data }) => onChange(data.changed);
  }

  /** Notify the other tabs. @param {string | null} id of a session that this tab has changed */
  notify(id) {
    this.#channel.postMessage({ changed: id });
  }
}
