// The language of the page: the chosen one, or the first of the browser's languages that has a catalogue. English is part of
// the page; another catalogue is loaded before the page is first drawn, and a change reloads the page.
import { localStore } from "./state/storage.js";
import { strings } from "./strings.js";

const CHOSEN = "chatapi.language";

/** The names of the languages in themselves, by code. @type {Record<string, string>} */
export const LANGUAGES = { en: "English", de: "Deutsch", fr: "Français", es: "Español", ja: "日本語", zh: "简体中文", ar: "العربية" };

/** @type {Record<string, () => Promise<{strings: typeof strings}>>} */
const CATALOGUES = {
  de: () => import("./languages/de.js"),
  fr: () => import("./languages/fr.js"),
  es: () => import("./languages/es.js"),
  ja: () => import("./languages/ja.js"),
  zh: () => import("./languages/zh.js"),
  ar: () => import("./languages/ar.js"),
};

/** The chosen language; "" if the browser's languages decide. */
export function chosenLanguage() {
  const stored = localStore.get(CHOSEN) ?? "";
  return Object.hasOwn(LANGUAGES, stored) ? stored : "";
}

/** Choose a language, and reload the page. Drafts and running answers are kept. @param {string} code or "" */
export function chooseLanguage(code) {
  localStore.set(CHOSEN, code);
  location.reload();
}

/** The locale of numbers and times: that of the browser, unless a language is chosen. Digits are those of the texts. */
export function locale() {
  const tag = `${chosenLanguage() || navigator.language}-u-nu-latn`;
  try {
    return Intl.getCanonicalLocales(tag)[0];
  } catch {
    return "en"; // the browser's language has no valid name
  }
}

/** Load the texts. If that fails, they are in English. */
export async function loadLanguage() {
  const preferred = navigator.languages.map((tag) => tag.split("-")[0].toLowerCase());
  const code = chosenLanguage() || preferred.find((one) => Object.hasOwn(LANGUAGES, one)) || "en";
  if (code === "en") return;
  try {
    replaceTexts(strings, (await CATALOGUES[code]()).strings);
    document.documentElement.lang = code;
    document.documentElement.dir = code === "ar" ? "rtl" : "ltr";
  } catch {
    // The server cannot be reached; the page says so.
  }
}

/**
 * @param {Record<string, any>} texts changed in place
 * @param {Record<string, any>} others
 */
function replaceTexts(texts, others) {
  for (const [name, value] of Object.entries(others)) {
    if (typeof value === "object" && !Array.isArray(value)) replaceTexts(texts[name], value);
    else texts[name] = value;
  }
}
