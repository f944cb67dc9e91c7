// Formulas in Markdown: how they are recognized, and rendering with KaTeX, which is loaded when the first one appears.
//
// The length of a formula is limited, commands that name addresses or classes are disabled, and rendering takes a few
// milliseconds at a time.

import { copyFormulas } from "./copy-formulas.js";

/** @typedef {import("../vendor/marked.js").Token} Token */
/** @typedef {import("../vendor/marked.js").Extension} Extension */

const MAX_TEX_CHARACTERS = 3000; // a longer formula is shown as source
const CHEMISTRY = /\\(?:ce|pu)\b/;
const SLICE_MS = 8; // of rendering between two turns of the event loop
const OPTIONS = { throwOnError: true, strict: false, trust: false, maxExpand: 200, maxSize: 20, output: "htmlAndMathml" };

const BLOCK = [
  [/^ {0,3}\$\$(?!\$)/, "$$"],
  [/^ {0,3}\\\[/, "\\]"],
];
/** Start and end of a formula in a line of text. @type {[string, string][]} */
const SPANS = [
  ["$$", "$$"],
  ["\\[", "\\]"],
  ["\\(", "\\)"],
];

/** Extensions of marked. @type {Extension[]} */
export const mathTokens = [
  {
    name: "math",
    level: "block",
    start(text) {
      // Search this paragraph only, so that a long text is not searched again for each of its paragraphs.
      const end = text.indexOf("\n\n");
      const found = (end < 0 ? text : text.slice(0, end)).search(/\n {0,3}(?:\$\$(?!\$)|\\\[)/);
      return found < 0 ? undefined : found + 1;
    },
    tokenizer(text) {
      for (const [begins, end] of BLOCK) {
        const opening = text.match(begins);
        if (opening === null) continue;
        const start = opening[0].length;
        const at = text.indexOf(/** @type {string} */ (end), start);
        // Search up to that end only, so that a text with many formulas is not searched again for each.
        const blank = text.slice(start, at < 0 ? text.length : at).search(/\n[ \t]*\n/);
        if (at >= 0 && blank < 0) {
          const rest = text.slice(at + 2).match(/^[ \t]*(?:\n|$)/);
          if (rest === null) return undefined;
          return { type: "math", raw: text.slice(0, at + 2 + rest[0].length), text: text.slice(start, at).trim() };
        }
        if (blank >= 0 || this.lexer.ended) return undefined;
        return { type: "math", raw: text, text: text.slice(start).trim(), unfinished: true };
      }
      return undefined;
    },
  },
  {
    name: "formula",
    level: "inline",
    start(text) {
      const places = ["$", "\\(", "\\["].map((mark) => text.indexOf(mark)).filter((place) => place >= 0);
      return places.length === 0 ? undefined : Math.min(...places);
    },
    tokenizer(text) {
      for (const [begin, end] of SPANS) {
        if (!text.startsWith(begin)) continue;
        const at = text.indexOf(end, begin.length);
        const tex = text.slice(begin.length, at).trim();
        if (at < 0 || tex === "" || at > MAX_TEX_CHARACTERS) return undefined;
        return { type: "formula", raw: text.slice(0, at + end.length), text: tex, display: begin !== "\\(" };
      }
      const dollars = text.match(/^\$(?![\s$])((?:\\[^]|[^$\\\n])+?)(?<!\s)\$(?![\d$])/);
      if (dollars === null || !isMath(dollars[1])) return undefined;
      return { type: "formula", raw: dollars[0], text: dollars[1], display: false };
    },
    renderer: (token) => mathHtml(token),
  },
];

/**
 * Whether a text between two dollar signs is a formula, and not part of two amounts of money.
 * @param {string} tex
 */
function isMath(tex) {
  if (tex.length > MAX_TEX_CHARACTERS) return false;
  return /[\\^_={}<>]|^[a-z]\([^()]{1,20}\)$/i.test(tex) || /^[^a-z]*[a-z](?![a-z])[^a-z]*$/i.test(tex) || isSum(tex);
}

/** @param {string} tex */
function isSum(tex) {
  return tex.length < 40 && /^[\w()[\]+\-*/|!,.' ]+$/.test(tex) && /[a-z]\s*[+\-*/]|[+\-*/]\s*[a-z]/i.test(tex) && !/[a-z]{2}/i.test(tex);
}

/**
 * The source of a formula as HTML, marked for `createFormula`.
 * @param {Token} token
 */
export function mathHtml(token) {
  const source = token.text.replace(/[&<>]/g, (/** @type {string} */ one) => `&#${one.charCodeAt(0)};`);
  if (token.unfinished) return `<span>${source}</span>`;
  return `<span data-math="${token.display === false ? "inline" : "display"}">${source}</span>`;
}

/** The source of each formula's element, for `formulaKey`. @type {WeakMap<Node, string>} */
const keys = new WeakMap();

/**
 * Create the element of a formula. It shows the source until `renderMath` replaces it.
 * @param {string} tex
 * @param {boolean} display
 */
export function createFormula(tex, display) {
  const element = document.createElement("span");
  element.className = display ? "math display" : "math";
  element.dir = "ltr";
  element.textContent = tex;
  keys.set(element, `${element.className}:${tex}`);
  return element;
}

/** Equal for formulas that look the same; undefined for other nodes. @param {Node} node */
export function formulaKey(node) {
  return keys.get(node);
}

/** Formulas to be rendered. @type {HTMLElement[]} */
const queue = [];
/** @typedef {import("../vendor/katex.js").Katex} Katex */

/** @type {Katex | null} */
let katex = null;
let hasChemistry = false;
let isWorking = false;
let sliceStart = -Infinity;

/**
 * Render a formula in place of its source: at once if KaTeX is loaded and the current slice has time left.
 * @param {HTMLElement} formula made by `createFormula`
 */
export function renderMath(formula) {
  if ((formula.textContent ?? "").length > MAX_TEX_CHARACTERS) return;
  const now = performance.now();
  if (now - sliceStart > 2 * SLICE_MS) sliceStart = now;
  if (katex !== null && !lacksChemistry(formula) && queue.length === 0 && now - sliceStart < SLICE_MS) {
    render(katex, formula);
    return;
  }
  queue.push(formula);
  if (!isWorking) void work();
}

/** Whether the extension for chemistry must be loaded for this formula. @param {HTMLElement} formula */
function lacksChemistry(formula) {
  return !hasChemistry && CHEMISTRY.test(formula.textContent ?? "");
}

async function work() {
  isWorking = true;
  try {
    katex ??= await load();
    while (queue.length > 0) {
      if (lacksChemistry(queue[0])) {
        await import("../vendor/mhchem.js");
        hasChemistry = true;
      }
      const started = performance.now();
      while (queue.length > 0 && !lacksChemistry(queue[0]) && performance.now() - started < SLICE_MS) {
        render(katex, /** @type {HTMLElement} */ (queue.shift()));
      }
      await new Promise((resolve) => setTimeout(resolve));
    }
  } catch {
    queue.length = 0; // KaTeX cannot be loaded: the sources stay, and the next formula tries again
  } finally {
    isWorking = false;
  }
}

async function load() {
  const style = document.createElement("link");
  style.rel = "stylesheet";
  style.href = new URL("../vendor/katex.css", import.meta.url).href;
  document.head.append(style);
  try {
    await import("../vendor/katex.js"); // a classic script: it defines a global variable
    document.addEventListener("copy", copyFormulas);
    return globalThis.katex;
  } catch (error) {
    style.remove();
    throw error;
  }
}

/**
 * @param {Katex} katex
 * @param {HTMLElement} formula
 */
function render(katex, formula) {
  const tex = formula.textContent ?? "";
  try {
    const displayMode = formula.classList.contains("display");
    const tree = katex.__renderToDomTree(tex, { ...OPTIONS, displayMode, macros: {} });
    removeStyleAttributes(tree);
    formula.replaceChildren(tree.toNode());
  } catch {
    formula.classList.add("broken"); // not valid TeX: the source stays
  }
}

/**
 * KaTeX sets styles through the CSSOM, which the page's policy allows, except in MathML, where it writes attributes.
 * MathML serves assistive technology and is not visible.
 * @param {import("../vendor/katex.js").Tree} tree
 */
function removeStyleAttributes(tree) {
  if (tree.attributes) delete tree.attributes.style;
  for (const child of tree.children ?? []) removeStyleAttributes(child);
}
