// Browser storage: drafts, the theme, the last model and, if the user asks for it, the key. If the browser refuses
// storage, values last as long as the page.

/** @param {() => Storage} find returns one of the browser's two storages; even this access may throw */
function createStorage(find) {
  /** @type {Map<string, string>} */
  const memory = new Map();
  const attempt = (/** @type {(storage: Storage) => void} */ act) => {
    try {
      act(find());
    } catch {
      // Disabled or full.
    }
  };
  return {
    /**
     * @param {string} name
     * @returns {string | null}
     */
    get(name) {
      let value = memory.get(name) ?? null;
      attempt((storage) => {
        value ??= storage.getItem(name);
      });
      return value;
    },
    /**
     * @param {string} name
     * @param {string | null} value null or "" removes it
     */
    set(name, value) {
      if (value) memory.set(name, value);
      else memory.delete(name);
      attempt((storage) => {
        if (value) storage.setItem(name, value);
        else storage.removeItem(name);
      });
    },
    /**
     * Remove every value whose name starts with this prefix.
     * @param {string} prefix
     */
    clear(prefix) {
      for (const name of [...memory.keys()]) if (name.startsWith(prefix)) memory.delete(name);
      attempt((storage) => {
        for (const name of Object.keys(storage)) if (name.startsWith(prefix)) storage.removeItem(name);
      });
    },
  };
}

/** Shared by all tabs; lasts until it is cleared. */
export const localStore = createStorage(() => localStorage);
/** Lasts as long as the tab. */
export const tabStorage = createStorage(() => sessionStorage);

const DRAFT = "chatapi.draft.";

/**
 * Text that is not sent yet, by the place where it was typed: a session id, a message id for an edit, or "" for a new
 * session. Drafts belong to one tab, because another tab may use another key.
 */
export const drafts = {
  /** @param {string} place */
  get: (place) => tabStorage.get(DRAFT + place) ?? "",
  /**
   * @param {string} place
   * @param {string} text
   */
  set: (place, text) => tabStorage.set(DRAFT + place, text),
  clear: () => tabStorage.clear(DRAFT),
};

const THEME = "chatapi.theme";

/** `system` follows the setting of the operating system. @typedef {"light" | "dark" | "system"} Theme */

/** @returns {Theme} */
export function theme() {
  const stored = localStore.get(THEME);
  return stored === "light" || stored === "dark" ? stored : "system";
}

/** @param {Theme} chosen */
export function setTheme(chosen) {
  localStore.set(THEME, chosen === "system" ? null : chosen);
  document.documentElement.dataset.theme = chosen;
}

/** The choices for the look of the page; the first of each is the default. `theme.js` applies them at the start. */
export const LOOKS = {
  accent: ["teal", "blue", "violet", "rose", "amber", "graphite"],
  text: ["medium", "small", "large", "larger"],
  lines: ["medium", "narrow", "wide"],
};

/** @typedef {keyof typeof LOOKS} Look */

/** @param {Look} name */
export function look(name) {
  const stored = localStore.get(`chatapi.${name}`);
  return stored !== null && LOOKS[name].includes(stored) ? stored : LOOKS[name][0];
}

/** @param {Look} name @param {string} chosen */
export function setLook(name, chosen) {
  localStore.set(`chatapi.${name}`, chosen === LOOKS[name][0] ? null : chosen);
  document.documentElement.dataset[name] = chosen;
}

const FOLDED = "chatapi.sidebar-folded";

export function sidebarIsFolded() {
  return localStore.get(FOLDED) !== null;
}

/** @param {boolean} isFolded */
export function foldSidebar(isFolded) {
  localStore.set(FOLDED, isFolded ? "yes" : null);
}

const MODEL_NOTICE = "chatapi.model-notice"; // the text that was dismissed

export function modelNoticeDismissed() {
  return tabStorage.get(MODEL_NOTICE);
}

/** @param {string} text */
export function dismissModelNotice(text) {
  tabStorage.set(MODEL_NOTICE, text);
}

const CLOSED = "chatapi.closed-folders"; // names, one a line

/** The folders of the sidebar whose chats are hidden. @returns {Set<string>} */
export function closedFolders() {
  return new Set((localStore.get(CLOSED) ?? "").split("\n").filter(Boolean));
}

/** Show or hide the chats of a folder. @param {string} name @returns {Set<string>} the folders that are closed now */
export function toggleFolder(name) {
  const closed = closedFolders();
  if (!closed.delete(name)) closed.add(name);
  localStore.set(CLOSED, [...closed].join("\n"));
  return closed;
}

/** Forget the names of folders. */
export function forgetFolders() {
  localStore.set(CLOSED, null);
}
