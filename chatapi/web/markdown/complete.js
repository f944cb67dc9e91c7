// Completes Markdown whose end has not arrived, so that it looks from the start as it will in the end.

const UNDECIDED = /^[ \t>]*(?:[-=+*#]{1,6}|\d{1,9}[.)])[ \t]*$/;
const MAX_UNDECIDED = 20; // characters

/**
 * Close the emphasis, code or link that is open at the end of inline text.
 * @param {string} text
 */
export function completeMarkup(text) {
  const target = text.lastIndexOf("](");
  if (target >= 0 && !/[)\s]/.test(text.slice(target + 2))) {
    const label = text.lastIndexOf("[", target);
    const start = text[label - 1] === "!" ? label - 1 : label;
    if (label >= 0) return text.slice(0, start) + text.slice(label + 1, target);
  }
  if (isOdd(text, /(?<!`)`(?!`)/g)) return `${text}\``;
  const trimmed = text.replace(/(^|\s)[*_~]{1,3}$/, "$1"); // opens nothing yet
  if (trimmed !== text || /\s$/.test(text)) return trimmed;
  const prose = text.replace(/`[^`]*`/g, "");
  return ["**", "~~"].reduce((done, mark) => (isOdd(prose, mark) ? done.replace(/[*~]$/, "") + mark : done), text);
}

/**
 * Remove a last line that may become a list, a heading or a rule, and would look like another of them until then.
 * @param {string} text
 */
export function withoutUndecidedLine(text) {
  const line = text.lastIndexOf("\n") + 1;
  return text.length - line < MAX_UNDECIDED && UNDECIDED.test(text.slice(line)) ? text.slice(0, line) : text;
}

/** @param {string} text @param {string | RegExp} mark */
function isOdd(text, mark) {
  return text.split(mark).length % 2 === 0;
}
