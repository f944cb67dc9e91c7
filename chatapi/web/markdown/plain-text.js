// Markdown as plain text, for screen readers.
import { strings } from "../strings.js";
import { isShown } from "./nodes.js";
import { BlockReader, inlineTokens } from "./reader.js";

/** @typedef {import("../vendor/marked.js").Token} Token */

/**
 * Return the beginning of a Markdown text without its markup. Code, tables and formulas are named, not read out.
 * @param {string} text
 * @param {number} maxCharacters the result ends at a word, followed by an ellipsis
 */
export function plainText(text, maxCharacters) {
  const { tokens, definitions } = new BlockReader().read(text.slice(0, 4 * maxCharacters), true); // markup is rarely longer
  const plain = tokens.map((token) => blockText(token, definitions)).join(" ").replace(/\s+/g, " ").trim();
  const isCut = plain.length > maxCharacters || text.length > 4 * maxCharacters;
  if (!isCut) return plain;
  return `${plain.slice(0, maxCharacters).replace(/\s\S*$/, "")} …`;
}

/**
 * @param {Token} token
 * @param {import("./reader.js").Definitions} definitions
 * @returns {string}
 */
function blockText(token, definitions) {
  switch (token.type) {
    case "code":
      return strings.spoken.code;
    case "table":
      return strings.spoken.table;
    case "math":
      return strings.spoken.formula;
    case "list":
      return token.items.map((/** @type {Token} */ item) => blockText(item, definitions)).join(", ");
    case "details":
    case "aligned":
    case "blockquote":
    case "list_item":
      return (token.tokens ?? []).filter(isShown).map((child) => blockText(child, definitions)).join(" ");
    case "paragraph":
    case "heading":
    case "text":
      return inlineTokens(token.text, definitions).map(inlineText).join("");
    default:
      return "";
  }
}

/**
 * @param {Token} token
 * @returns {string}
 */
function inlineText(token) {
  if (token.type === "formula") return strings.spoken.formula;
  if (token.type === "html") return "";
  if (token.type === "br") return " ";
  if (token.tokens) return token.tokens.map(inlineText).join("");
  return token.text ?? "";
}
