// Creates the elements of blocks, with fixed names and attributes.
import { strings } from "../strings.js";
import { createCodeBlock } from "./code-block.js";
import { createButton, createElement } from "./elements.js";
import { createFootnote } from "./footnotes.js";

/** @typedef {import("../vendor/marked.js").Token} Token */

/** @param {Token} token */
export function isShown(token) {
  return token.type !== "space" && token.type !== "def" && token.type !== "checkbox";
}

/** A token that shows its source. @param {string} text @returns {Token} */
export function verbatim(text) {
  return { type: "plain", raw: text, text };
}

/**
 * What a block and a token must have in common for the block to be updated instead of replaced.
 * @param {Token} token
 */
export function kindOf(token) {
  switch (token.type) {
    case "heading":
      return `h${Math.min(6, token.depth + 2)}`; // the page itself uses the two levels above
    case "list":
      return token.ordered ? `ol ${token.start}` : "ul";
    case "code":
      return `code ${languageOf(token)}`;
    case "table":
      return `table ${token.align}`;
    case "blockquote":
      return alertOf(token) === null ? "blockquote" : `alert ${alertOf(token)}`;
    case "td":
    case "th":
      return `${token.type} ${token.align}`;
    case "text":
    case "paragraph":
      return "p";
    case "aligned":
      return `aligned ${token.align}`;
    case "footnote":
      return `footnote ${token.number}`;
    default:
      return token.type;
  }
}

const ALERT = /^\[!(NOTE|TIP|IMPORTANT|WARNING|CAUTION)\][ \t]*(?:\n|$)/i;

/**
 * The kind of an alert as on GitHub, a quotation that starts with `[!NOTE]`; null for other quotations.
 * @param {Token} quote
 */
function alertOf(quote) {
  const [first] = (quote.tokens ?? []).filter(isShown);
  return first?.type === "paragraph" ? (ALERT.exec(first.text)?.[1].toLowerCase() ?? null) : null;
}

/**
 * The blocks of a quotation, without the mark of an alert.
 * @param {Token} quote
 * @returns {Token[]}
 */
export function quoteContent(quote) {
  const tokens = (quote.tokens ?? []).filter(isShown);
  if (alertOf(quote) === null) return tokens;
  const [first, ...others] = tokens;
  const text = first.text.replace(ALERT, "");
  return text === "" ? others : [{ ...first, text }, ...others];
}

/** @param {string} kind */
function createAlert(kind) {
  const alert = createElement("div", `alert ${kind}`);
  const title = createElement("p", "alert-title");
  title.textContent = strings.alerts[kind];
  alert.append(title);
  return alert;
}

/** @param {Token} token */
function languageOf(token) {
  return (token.lang ?? "").trim().split(/\s/, 1)[0].slice(0, 40);
}

/**
 * @param {string} kind
 * @param {Token} token
 * @returns {HTMLElement}
 */
export function createNode(kind, token) {
  const name = kind.split(" ", 1)[0];
  switch (name) {
    case "code":
      return createCodeBlock(languageOf(token));
    case "table":
      return createTable();
    case "plain":
    case "math":
    case "html": {
      const block = createElement("div", `${name}-block`);
      if (name === "math") block.dir = "ltr";
      return block;
    }
    case "details": {
      const details = createElement("details");
      details.append(createElement("summary"));
      return details;
    }
    case "alert":
      return createAlert(kind.slice(name.length + 1));
    case "aligned":
      return createElement("div", kind);
    case "footnote":
      return createFootnote(`${token.number}`);
    case "list_item":
      return createElement("li");
    case "td":
    case "th": {
      const cell = createElement(name);
      if (token.align) cell.classList.add(token.align);
      if (name === "th") cell.setAttribute("scope", "col");
      return cell;
    }
    case "ol": {
      const list = /** @type {HTMLOListElement} */ (createElement("ol"));
      if (token.start !== 1) list.start = token.start;
      return list;
    }
    default:
      return createElement(name);
  }
}

function createTable() {
  const block = createElement("div", "table-block");
  const box = createElement("div", "table-scroll");
  box.tabIndex = 0; // for scrolling with the keyboard
  box.append(createElement("table"));
  block.append(box, createButton("copy-table", strings.code.copyTable));
  return block;
}

/**
 * The blocks of a list item. The box of a task becomes a character in front of its text.
 * @param {Token} item
 * @returns {Token[]}
 */
export function itemContent(item) {
  const tokens = (item.tokens ?? []).filter(isShown);
  if (!item.task || tokens.length === 0) return tokens;
  const [first, ...others] = tokens;
  const text = `${item.checked ? "☑" : "☐"} ${first.text.replace(/^\[[ xX]\]\s*/, "")}`;
  return [{ ...first, text }, ...others];
}
