// HTML around Markdown: `<details>`, a summary and Markdown that it folds, and `<div align="center">`.

/** @typedef {import("../vendor/marked.js").Extension} Extension */

const OPENING = /^ {0,3}<details(?: open)?>\s*<summary>([^\n]{0,500}?)<\/summary>[ \t]*\n?/i;
const ALIGNED = /^ {0,3}<div align=["']?(left|right|center)["']?[ \t]*>[ \t]*\n/i;
const MAX_DEPTH = 8; // of each kind in itself; deeper ones stay text
const DETAILS_TAG = /<(\/?)details\b[^<>\n]{0,20}>/gi;
const DIV_TAG = /<(\/?)div\b[^<>\n]{0,40}>/gi;

/** An extension of marked. @type {Extension} */
export const detailsToken = {
  name: "details",
  level: "block",
  start(text) {
    // Search this paragraph only, so that a long text is not searched again for each of its paragraphs.
    const end = text.indexOf("\n\n");
    const found = (end < 0 ? text : text.slice(0, end)).search(/\n {0,3}<details/i);
    return found < 0 ? undefined : found + 1;
  },
  tokenizer(text) {
    const opening = OPENING.exec(text);
    if (opening === null) return undefined;
    const start = opening[0].length;
    const closing = findClosing(text, DETAILS_TAG);
    if (closing === "too deep" || (closing === null && this.lexer.ended)) return undefined;
    const inner = text.slice(start, closing?.start);
    const raw = closing === null ? text : text.slice(0, closing.end);
    const summary = opening[1].replace(/<[^<>]*>/g, "").trim();
    return { type: "details", raw, summary, tokens: this.lexer.blockTokens(inner) };
  },
};

/** An extension of marked. @type {Extension} */
export const alignedToken = {
  name: "aligned",
  level: "block",
  start(text) {
    const end = text.indexOf("\n\n");
    const found = (end < 0 ? text : text.slice(0, end)).search(/\n {0,3}<div align/i);
    return found < 0 ? undefined : found + 1;
  },
  tokenizer(text) {
    const opening = ALIGNED.exec(text);
    if (opening === null) return undefined;
    const closing = findClosing(text, DIV_TAG);
    if (closing === "too deep" || (closing === null && this.lexer.ended)) return undefined;
    const inner = text.slice(opening[0].length, closing?.start);
    const raw = closing === null ? text : text.slice(0, closing.end);
    return { type: "aligned", raw, align: opening[1].toLowerCase(), tokens: this.lexer.blockTokens(inner) };
  },
};

/**
 * Find the tag that closes the first one.
 * @param {string} text
 * @param {RegExp} tags
 * @returns {{start: number, end: number} | "too deep" | null} null if there is none yet
 */
function findClosing(text, tags) {
  let depth = 0;
  for (const tag of text.matchAll(tags)) {
    depth += tag[1] === "" ? 1 : -1;
    if (depth > MAX_DEPTH) return "too deep";
    if (depth > 0) continue;
    const end = tag.index + tag[0].length;
    return { start: tag.index, end: end + (/^[ \t]*\n?/.exec(text.slice(end, end + 200))?.[0].length ?? 0) };
  }
  return null;
}
