// The list of one's sessions, the last used first; and what is done to them from there.
import { Problem, Unreachable } from "./api.js";
import { Observable } from "./observable.js";

/**
 * @typedef {import("./api.js").Api} Api
 * @typedef {import("./types.d.ts").Session} Session
 */

export const UNDO_SECONDS = 7; // how long a deletion waits for a change of mind

export class Sessions extends Observable {
  /** Without those that are about to be deleted. @type {Session[]} */
  list = [];
  /** Where more are, if there are. @type {string | null} */
  more = null;
  loaded = false;
  /** @type {Error | null} */
  problem = null;

  #api;
  #told;
  /** What is about to be deleted, with the timers that do it; and, with none, what was. @type {Map<string, number | null>} */
  #going = new Map();
  /** How often the list was asked for, and which of the answers is shown. */
  #readings = 0;
  #taken = 0;

  /**
   * @param {Api} api
   * @param {(id: string) => void} told called when a session was changed at the server
   */
  constructor(api, told) {
    super();
    this.#api = api;
    this.#told = told;
  }

  /** Read the first page again. Never throws: `problem` tells. */
  async load() {
    await this.#read(null);
  }

  /** Read the next page. */
  async loadMore() {
    if (this.more !== null) await this.#read(this.more);
  }

  /** @param {string | null} cursor */
  async #read(cursor) {
    this.#readings += 1;
    const reading = this.#readings;
    try {
      const page = await this.#api.sessions(cursor);
      if (cursor === null) {
        if (reading < this.#taken) return; // one that was asked for later is shown
        this.#taken = reading;
      }
      const fresh = new Set(page.data.map((session) => session.session_id));
      const others = this.list.filter((session) => !fresh.has(session.session_id));
      if (cursor === null) {
        // The top of the list, as it is now; what was loaded below it stays.
        const end = page.next_cursor === null ? "" : (page.data.at(-1)?.last_updated ?? "");
        const below = others.filter((session) => session.last_updated < end);
        this.list = this.#staying([...page.data, ...below]);
        if (below.length === 0) this.more = page.next_cursor;
      } else {
        this.list = this.#staying([...others, ...page.data]);
        this.more = page.next_cursor;
      }
      this.loaded = true;
      this.problem = null;
    } catch (error) {
      this.#failed(error);
    }
    this.changed();
  }

  /** @param {Session[]} sessions */
  #staying(sessions) {
    return sessions.filter((session) => !this.#going.has(session.session_id));
  }

  /**
   * @param {string} id
   * @param {string} title
   * @returns {Promise<boolean>} whether it has it
   */
  async rename(id, title) {
    try {
      const session = await this.#api.changeSession(id, { title });
      this.list = this.list.map((known) => (known.session_id === id ? session : known));
      this.#told(id);
      return true;
    } catch (error) {
      this.#failed(error);
      return false;
    } finally {
      this.changed();
    }
  }

  /**
   * Take a session out of the list now, and delete it when nobody has asked for it back.
   * @param {string} id
   */
  remove(id) {
    this.#going.set(
      id,
      setTimeout(() => void this.#delete(id), UNDO_SECONDS * 1000),
    );
    this.list = this.#staying(this.list);
    this.changed();
  }

  /** @param {string} id of one that may be about to be deleted */
  async restore(id) {
    const timer = this.#going.get(id);
    if (timer === undefined || timer === null) return;
    clearTimeout(timer);
    this.#going.delete(id);
    await this.load();
  }

  /** The page is about to go: what was to be deleted is, now. */
  leave() {
    for (const [id, timer] of this.#going) {
      if (timer === null) continue;
      clearTimeout(timer);
      void this.#delete(id, true);
    }
  }

  /**
   * @param {string} id
   * @param {boolean} [leaving]
   */
  async #delete(id, leaving = false) {
    this.#going.set(id, null); // too late for a change of mind
    try {
      await this.#api.deleteSession(id, leaving);
      this.#told(id);
    } catch (error) {
      if (error instanceof Problem && error.status === 404) return;
      this.#going.delete(id);
      await this.load(); // it is still there, and is shown again
      this.#failed(error);
      this.changed();
    }
  }

  /** @param {unknown} error */
  #failed(error) {
    if (!(error instanceof Problem || error instanceof Unreachable)) throw error;
    this.problem = error;
  }
}
