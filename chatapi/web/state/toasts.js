// Short messages over the page that disappear by themselves.
import { Observable } from "./observable.js";
import { UNDO_SECONDS } from "./sessions.js";

/** @typedef {{id: number, text: string, action?: {label: string, act: () => void}}} Toast */

export class Toasts extends Observable {
  /** @type {Toast[]} */
  list = [];

  #lastId = 0;

  /**
   * Show a message as long as a deletion can be undone.
   * @param {string} text
   * @param {Toast["action"]} [action]
   */
  show(text, action) {
    this.#lastId += 1;
    const id = this.#lastId;
    const dismiss = () => {
      this.list = this.list.filter((toast) => toast.id !== id);
      this.changed();
    };
    const dismissAndAct = action && { ...action, act: () => [dismiss(), action.act()] };
    this.list = [...this.list, { id, text, action: dismissAndAct }];
    setTimeout(dismiss, UNDO_SECONDS * 1000);
    this.changed();
  }
}
