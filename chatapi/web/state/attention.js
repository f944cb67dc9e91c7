// Tells a user who looks elsewhere that an answer is done: in the title, in the icon of the tab and, on request, by a
// notification of the system.
import { strings } from "../strings.js";
import { Observable } from "./observable.js";
import { localStore } from "./storage.js";

const WANTED = "chatapi.notify";
const BODY_CHARACTERS = 120;

export class Attention extends Observable {
  /** Whether an answer has ended since the page was hidden. */
  isWanted = false;

  constructor() {
    super();
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.#set(false);
    });
  }

  /** Whether the user wants notifications, and the browser allows them. */
  get notifies() {
    return localStore.get(WANTED) !== null && "Notification" in globalThis && Notification.permission === "granted";
  }

  /**
   * Turn notifications on or off. Asks for the permission of the browser.
   * @param {boolean} isOn
   * @returns {Promise<boolean>} whether they are as wanted
   */
  async setNotifies(isOn) {
    if (isOn && (!("Notification" in globalThis) || (await Notification.requestPermission()) !== "granted")) return false;
    localStore.set(WANTED, isOn ? "yes" : null);
    this.changed();
    return true;
  }

  /**
   * An answer has ended.
   * @param {string} title of its session
   * @param {string} text
   * @param {() => void} onOpen called when the user opens the notification
   */
  onAnswer(title, text, onOpen) {
    if (!document.hidden) return;
    this.#set(true);
    if (!this.notifies) return;
    const body = text.length > BODY_CHARACTERS ? `${text.slice(0, BODY_CHARACTERS)} …` : text;
    const notification = new Notification(title || strings.name, { body, tag: "chatapi" });
    notification.onclick = () => {
      focus();
      onOpen();
      notification.close();
    };
  }

  /** @param {boolean} isWanted */
  #set(isWanted) {
    if (isWanted === this.isWanted) return;
    this.isWanted = isWanted;
    const icon = /** @type {HTMLLinkElement} */ (document.querySelector("link[rel=icon]"));
    icon.href = icon.href.replace(/icon[\w-]*\.svg$/, isWanted ? "icon-done.svg" : "icon.svg");
    this.changed();
  }
}
