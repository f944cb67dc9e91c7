// What the browser keeps for this page: drafts, looks, and, only if the person says so, the key. A browser may refuse
// to keep anything; then it lasts as long as the page.

/** @param {() => Storage} find which of the browser's two; even asking for it may be refused */
function shelf(find) {
  /** @type {Map<string, string>} */
  const here = new Map();
  const attempt = (/** @type {(storage: Storage) => void} */ act) => {
    try {
      act(find());
    } catch {
      // Refused, or full.
    }
  };
  return {
    /**
     * @param {string} name
     * @returns {string | null}
     */
    get(name) {
      let value = here.get(name) ?? null;
      attempt((storage) => {
        value ??= storage.getItem(name);
      });
      return value;
    },
    /**
     * @param {string} name
     * @param {string | null} value null or empty takes it away
     */
    set(name, value) {
      if (value) here.set(name, value);
      else here.delete(name);
      attempt((storage) => {
        if (value) storage.setItem(name, value);
        else storage.removeItem(name);
      });
    },
    /**
     * Take away all whose names begin so.
     * @param {string} prefix
     */
    clear(prefix) {
      for (const name of [...here.keys()]) if (name.startsWith(prefix)) here.delete(name);
      attempt((storage) => {
        for (const name of Object.keys(storage)) if (name.startsWith(prefix)) storage.removeItem(name);
      });
    },
  };
}

/** Lasts until it is cleared. */
export const local = shelf(() => localStorage);
/** Lasts as long as the tab. */
export const ofTab = shelf(() => sessionStorage);

const DRAFT = "chatapi.draft.";

/**
 * What was typed and not sent yet, by session; "" for the one that has not begun. It is the tab's own: whoever opens
 * another may bring another key.
 */
export const drafts = {
  /** @param {string} sessionId */
  get: (sessionId) => ofTab.get(DRAFT + sessionId) ?? "",
  /**
   * @param {string} sessionId
   * @param {string} text
   */
  set: (sessionId, text) => ofTab.set(DRAFT + sessionId, text),
  clear: () => ofTab.clear(DRAFT),
};

const THEME = "chatapi.theme";

/** Light, dark, or as the system has it. @typedef {"light" | "dark" | "system"} Theme */

/** @returns {Theme} */
export function theme() {
  const kept = local.get(THEME);
  return kept === "light" || kept === "dark" ? kept : "system";
}

/** @param {Theme} chosen */
export function setTheme(chosen) {
  local.set(THEME, chosen === "system" ? null : chosen);
  document.documentElement.dataset.theme = chosen;
}
