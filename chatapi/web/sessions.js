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
  /** What is about to be deleted, and the timers that do it. @type {Map<string, number>} */
  #going = new Map();

  /** @param {Api} api */
  constructor(api) {
    super();
    this.#api = api;
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
    try {
      const page = await this.#api.sessions(cursor);
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
   */
  async rename(id, title) {
    try {
      const session = await this.#api.changeSession(id, { title });
      this.list = this.list.map((known) => (known.session_id === id ? session : known));
    } catch (error) {
      this.#failed(error);
    }
    this.changed();
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

  /** @param {string} id */
  async restore(id) {
    clearTimeout(this.#going.get(id));
    this.#going.delete(id);
    await this.load();
  }

  /** The page is about to go: what was to be deleted is, now. */
  leave() {
    for (const [id, timer] of this.#going) {
      clearTimeout(timer);
      void this.#delete(id, true);
    }
  }

  /**
   * @param {string} id
   * @param {boolean} [leaving]
   */
  async #delete(id, leaving = false) {
    try {
      await this.#api.deleteSession(id, leaving);
    } catch (error) {
      if (!(error instanceof Problem && error.status === 404)) this.#failed(error);
    }
    this.#going.delete(id);
    if (this.problem !== null) await this.load(); // it is still there, and is shown again
  }

  /** @param {unknown} error */
  #failed(error) {
    if (!(error instanceof Problem || error instanceof Unreachable)) throw error;
    this.problem = error;
  }
}
