// The list of the user's sessions, most recently used first: load, rename, pin, archive, delete.
import { ApiError, isRequestError } from "../api/client.js";
import { Observable } from "./observable.js";
import { localStore } from "./storage.js";

/**
 * @typedef {import("../api/client.js").Api} Api
 * @typedef {import("../types.d.ts").Session} Session
 */

/** What a user can mark a session with; stored in its metadata. @typedef {"pinned" | "archived"} Flag */

const PREFIX = "page."; // of the flags in the metadata
const FOLDER = "page.folder"; // its name, in the metadata
const PINS = "chatapi.pins"; // ids of pinned sessions, which are shown even if they are on a later page of the list
const MAX_PINS = 20; // that are requested one by one
export const UNDO_SECONDS = 7; // the delay of a deletion, in which it can be undone

export class Sessions extends Observable {
  /** Excludes sessions with a pending deletion. @type {Session[]} */
  list = [];
  /** Cursor of the next page, if there is one. @type {string | null} */
  nextCursor = null;
  loaded = false;
  /** Why the last request failed. @type {Error | null} */
  error = null;

  #api;
  #onChange;
  /** Deletions by session id: the timer of a pending one, or null once it was sent. @type {Map<string, number | null>} */
  #deletions = new Map();
  /** The number of requests for the first page, and which of them `list` shows. */
  #requests = 0;
  #shownRequest = 0;

  /**
   * @param {Api} api
   * @param {(id: string) => void} onChange called after a session was changed at the server
   */
  constructor(api, onChange) {
    super();
    this.#api = api;
    this.#onChange = onChange;
  }

  /** Load the first page again. Never throws: a failure is stored in `error`. */
  async load() {
    const isFirst = !this.loaded;
    await this.#attempt(() => this.#loadPage(null));
    if (isFirst && this.loaded) await this.#loadPins();
  }

  /** Load the pinned sessions that are not in the list. */
  async #loadPins() {
    const missing = storedPins().filter((id) => !this.list.some((session) => session.session_id === id));
    const found = await Promise.allSettled(missing.slice(-MAX_PINS).map((id) => this.#api.session(id)));
    const sessions = found.flatMap((one) => (one.status === "fulfilled" && hasFlag(one.value, "pinned") ? [one.value] : []));
    this.list = this.#withoutDeleted([...this.list, ...sessions]);
    this.changed();
  }

  /**
   * Set or remove a flag. Returns whether it succeeded.
   * @param {Session} session
   * @param {Flag} flag
   */
  async toggleFlag(session, flag) {
    const id = session.session_id;
    const isSet = hasFlag(session, flag);
    const isDone = await this.#mark(id, PREFIX + flag, isSet ? "" : "yes");
    if (isDone && flag === "pinned") storePins([...storedPins().filter((one) => one !== id), ...(isSet ? [] : [id])]);
    return isDone;
  }

  /**
   * Move a session to a folder, or out of its folder if the name is empty. Returns whether it succeeded.
   * @param {string} id
   * @param {string} folder
   */
  async move(id, folder) {
    return this.#mark(id, FOLDER, folder);
  }

  /** The names of the folders of the sessions in the list. */
  get folders() {
    return [...new Set(this.list.map(folderOf).filter(Boolean))].sort((one, other) => one.localeCompare(other));
  }

  /**
   * Set an entry of a session's metadata, or remove it if the value is empty. Returns whether it succeeded.
   * @param {string} id
   * @param {string} name
   * @param {string} value
   */
  async #mark(id, name, value) {
    return this.#attempt(async () => {
      const { metadata } = await this.#api.session(id);
      const { [name]: _, ...others } = metadata;
      const changed = await this.#api.changeSession(id, { metadata: value === "" ? others : { ...others, [name]: value } });
      this.list = this.list.map((known) => (known.session_id === id ? changed : known));
      this.#onChange(id);
    });
  }

  forgetPins() {
    storePins([]);
  }

  /** Load the next page. */
  async loadMore() {
    const { nextCursor } = this;
    if (nextCursor !== null) await this.#attempt(() => this.#loadPage(nextCursor));
  }

  /** Load the first page again without reporting a failure. Returns whether it succeeded. */
  async poll() {
    try {
      await this.#loadPage(null);
      return true;
    } catch (error) {
      if (!isRequestError(error)) throw error;
      return false;
    } finally {
      this.changed();
    }
  }

  /** @param {string | null} cursor */
  async #loadPage(cursor) {
    this.#requests += 1;
    const request = this.#requests;
    const page = await this.#api.sessions(cursor);
    if (cursor === null) {
      if (request < this.#shownRequest) return; // a later request has been answered already
      this.#shownRequest = request;
    }
    const fresh = new Set(page.data.map((session) => session.session_id));
    const others = this.list.filter((session) => !fresh.has(session.session_id));
    if (cursor === null) {
      // Replace the top of the list; keep the pages that were loaded below it.
      const end = page.next_cursor === null ? "" : (page.data.at(-1)?.last_updated ?? "");
      const below = others.filter((session) => session.last_updated < end);
      this.list = this.#withoutDeleted([...page.data, ...below]);
      if (below.length === 0) this.nextCursor = page.next_cursor;
    } else {
      this.list = this.#withoutDeleted([...others, ...page.data]);
      this.nextCursor = page.next_cursor;
    }
    this.loaded = true;
    this.error = null;
  }

  /** @param {Session[]} sessions */
  #withoutDeleted(sessions) {
    return sessions.filter((session) => !this.#deletions.has(session.session_id));
  }

  /**
   * @param {string} id
   * @param {string} title
   * @returns {Promise<boolean>} whether it succeeded
   */
  async rename(id, title) {
    return this.#attempt(async () => {
      const session = await this.#api.changeSession(id, { title });
      this.list = this.list.map((known) => (known.session_id === id ? session : known));
      this.#onChange(id);
    });
  }

  /**
   * Remove a session from the list now, and delete it after `UNDO_SECONDS` unless it is restored.
   * @param {string} id
   */
  remove(id) {
    this.#deletions.set(
      id,
      setTimeout(() => void this.#delete(id), UNDO_SECONDS * 1000),
    );
    this.list = this.#withoutDeleted(this.list);
    this.changed();
  }

  /** Cancel a pending deletion, if there is one. @param {string} id */
  async restore(id) {
    const timer = this.#deletions.get(id);
    if (timer === undefined || timer === null) return;
    clearTimeout(timer);
    this.#deletions.delete(id);
    await this.load();
  }

  /** Send all pending deletions now, because the page is about to close. */
  flushDeletions() {
    for (const [id, timer] of this.#deletions) {
      if (timer === null) continue;
      clearTimeout(timer);
      void this.#delete(id, true);
    }
  }

  /**
   * @param {string} id
   * @param {boolean} [closing] whether the page is about to close
   */
  async #delete(id, closing = false) {
    this.#deletions.set(id, null); // can no longer be undone
    try {
      await this.#api.deleteSession(id, closing);
      this.#onChange(id);
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return;
      this.#deletions.delete(id);
      await this.load(); // the session still exists, so it is listed again
      await this.#attempt(() => Promise.reject(error));
    }
  }

  /**
   * Run a request. Returns whether it succeeded; a failure is stored in `error`.
   * @param {() => Promise<void>} request
   */
  async #attempt(request) {
    try {
      await request();
      return true;
    } catch (error) {
      if (!isRequestError(error)) throw error;
      this.error = error;
      return false;
    } finally {
      this.changed();
    }
  }
}

/** @param {Session} session @param {Flag} flag */
export function hasFlag(session, flag) {
  return session.metadata[PREFIX + flag] === "yes";
}

/** The name of the folder of a session; "" if it is in none. @param {Session} session */
export function folderOf(session) {
  return session.metadata[FOLDER] ?? "";
}

/** @returns {string[]} */
function storedPins() {
  return (localStore.get(PINS) ?? "").split(" ").filter(Boolean);
}

/** @param {string[]} ids */
function storePins(ids) {
  localStore.set(PINS, ids.join(" "));
}
