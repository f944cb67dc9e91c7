// Mathematics in Markdown: where it stands in a text, and KaTeX, fetched when there is some.
//
// What KaTeX is given is bounded, it may name no address and no class, and it is done a few milliseconds at a time.

/** @typedef {import("./vendor/marked.js").Token} Token */
/** @typedef {import("./vendor/marked.js").Extension} Extension */

const MAX_TEX = 3000; // characters of one formula; a longer one is shown as its source
const SLICE_MS = 8; // of rendering, before the browser gets its turn
const OPTIONS = { throwOnError: true, strict: false, trust: false, maxExpand: 200, maxSize: 20, output: "htmlAndMathml" };

const BLOCK = [
  [/^ {0,3}\$\$(?!\$)/, "$$"],
  [/^ {0,3}\\\[/, "\\]"],
];
/** Where a formula ends that begins with this, within a line of text. @type {[string, string][]} */
const SPANS = [
  ["$$", "$$"],
  ["\\[", "\\]"],
  ["\\(", "\\)"],
];

/** What marked is to know of mathematics. @type {Extension[]} */
export const mathTokens = [
  {
    name: "math",
    level: "block",
    start(text) {
      // Only as far as the paragraph goes, so that a long text is not searched again for each of its paragraphs.
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
        // No further than it may go, so that a text of many is not searched again for each.
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
        if (at < 0 || tex === "" || at > MAX_TEX) return undefined;
        return { type: "formula", raw: text.slice(0, at + end.length), text: tex, display: begin !== "\\(" };
      }
      const dollars = text.match(/^\$(?![\s$])((?:\\[^]|[^$\\\n])+?)(?<!\s)\$(?![\d$])/);
      if (dollars === null || !isMath(dollars[1])) return undefined;
      return { type: "formula", raw: dollars[0], text: dollars[1], display: false };
    },
    renderer: (token) => mathIn(token),
  },
];

/**
 * Is what stands between two dollars mathematics, and no amounts of money?
 * @param {string} tex
 */
function isMath(tex) {
  if (tex.length > MAX_TEX) return false;
  return /[\\^_={}<>]|^[a-z]\([^()]{1,20}\)$/i.test(tex) || /^[^a-z]*[a-z](?![a-z])[^a-z]*$/i.test(tex) || isSum(tex);
}

/** @param {string} tex */
function isSum(tex) {
  return tex.length < 40 && /^[\w()[\]+\-*/|!,.' ]+$/.test(tex) && /[a-z]\s*[+\-*/]|[+\-*/]\s*[a-z]/i.test(tex) && !/[a-z]{2}/i.test(tex);
}

/**
 * A formula in HTML: its source, marked as one.
 * @param {Token} token
 */
export function mathIn(token) {
  const source = token.text.replace(/[&<>]/g, (/** @type {string} */ one) => `&#${one.charCodeAt(0)};`);
  if (token.unfinished) return `<span>${source}</span>`;
  return `<span data-math="${token.display === false ? "inline" : "display"}">${source}</span>`;
}

/** Formulas that wait. @type {HTMLElement[]} */
const waiting = [];
/** @type {typeof import("./vendor/katex.js") | null} */
let katex = null;
let busy = false;
let sliceBegun = -Infinity;

/**
 * Show a formula in place of its source; at once where KaTeX is there and has not been at work just now.
 * @param {HTMLElement} place
 */
export function renderMath(place) {
  if ((place.textContent ?? "").length > MAX_TEX) return;
  const now = performance.now();
  if (now - sliceBegun > 2 * SLICE_MS) sliceBegun = now;
  if (katex !== null && waiting.length === 0 && now - sliceBegun < SLICE_MS) {
    render(katex, place);
    return;
  }
  waiting.push(place);
  if (!busy) work();
}

async function work() {
  busy = true;
  try {
    katex ??= await load();
    while (waiting.length > 0) {
      const begun = performance.now();
      while (waiting.length > 0 && performance.now() - begun < SLICE_MS) {
        render(katex, /** @type {HTMLElement} */ (waiting.shift()));
      }
      await new Promise((resolve) => setTimeout(resolve));
    }
  } catch {
    waiting.length = 0; // it cannot be fetched: the sources stay, and the next formula tries again
  } finally {
    busy = false;
  }
}

async function load() {
  const style = document.createElement("link");
  style.rel = "stylesheet";
  style.href = new URL("./vendor/katex.css", import.meta.url).href;
  document.head.append(style);
  try {
    return await import("./vendor/katex.js");
  } catch (error) {
    style.remove();
    throw error;
  }
}

/**
 * @param {typeof import("./vendor/katex.js")} katex
 * @param {HTMLElement} place
 */
function render(katex, place) {
  const tex = place.textContent ?? "";
  try {
    const tree = katex.__renderToDomTree(tex, { ...OPTIONS, displayMode: place.classList.contains("display"), macros: {} });
    withoutStyleAttributes(tree);
    place.replaceChildren(tree.toNode());
  } catch {
    place.classList.add("broken"); // it is no TeX that KaTeX knows: the source stays
  }
}

/**
 * KaTeX sets styles through the DOM, which the page's policy allows; but for those of MathML, which it writes as
 * attributes. That part is for assistive technology and has no look.
 * @param {import("./vendor/katex.js").Tree} tree
 */
function withoutStyleAttributes(tree) {
  if (tree.attributes) delete tree.attributes.style;
  for (const child of tree.children ?? []) withoutStyleAttributes(child);
}
