// Footnotes in Markdown: `[^name]` in a text, and `[^name]: …` at the start of a line. Notes are numbered in their order.
//
// No name becomes an id or an address: a click finds the other end in the same answer by its number.
import { strings } from "../strings.js";
import { createButton, createElement } from "./elements.js";

/** @typedef {import("../vendor/marked.js").Extension} Extension */

const REFERENCE = /^\[\^([^\s[\]^]{1,100})\]/;
const DEFINITION = /^ {0,3}\[\^([^\s[\]^]{1,100})\]:[ \t]*/;
const OTHER_BLOCK = /^ {0,3}(?:#{1,6}[ \t]|```|~~~|>|[-*+][ \t]|\d{1,9}[.)][ \t])/; // it ends the paragraph before it
const NUMBER = /^[1-9]\d{0,3}$/;

/** Extensions of marked. @type {Extension[]} */
export const footnoteTokens = [
  {
    name: "footnote",
    level: "block",
    start(text) {
      // Search this paragraph only, so that a long text is not searched again for each of its paragraphs.
      const end = text.indexOf("\n\n");
      const found = (end < 0 ? text : text.slice(0, end)).search(/\n {0,3}\[\^[^\s[\]^]{1,100}\]:/);
      return found < 0 ? undefined : found + 1;
    },
    tokenizer(text) {
      const opening = DEFINITION.exec(text);
      if (opening === null) return undefined;
      const raw = text.slice(0, endOf(text));
      const inner = raw.slice(opening[0].length).replace(/^(?: {4}|\t)/gm, "");
      const { footnotes } = this.lexer;
      footnotes[opening[1]] ??= Object.keys(footnotes).length + 1;
      return { type: "footnote", raw, number: footnotes[opening[1]], tokens: this.lexer.blockTokens(inner) };
    },
  },
  {
    name: "reference",
    level: "inline",
    start(text) {
      const found = text.indexOf("[^");
      return found < 0 ? undefined : found;
    },
    tokenizer(text) {
      const found = REFERENCE.exec(text);
      const number = found === null ? undefined : this.lexer.footnotes[found[1]];
      return found === null || number === undefined ? undefined : { type: "reference", raw: found[0], number };
    },
    renderer: ({ number }) => `<sup data-footnote="${number}">${number}</sup>`,
  },
];

/**
 * Where a note ends: at the next note, or at a blank line that no indented line follows.
 * @param {string} text that starts with a note
 */
function endOf(text) {
  let end = 0;
  for (let at = 0; at < text.length; ) {
    const next = text.indexOf("\n", at) + 1 || text.length;
    const line = text.slice(at, next);
    const isIndented = /^(?: {4}|\t)/.test(line);
    if (line.trim() === "") {
      at = next;
      continue;
    }
    const isAfterBlank = at > end;
    if (at > 0 && !isIndented && (isAfterBlank || DEFINITION.test(line) || OTHER_BLOCK.test(line))) break;
    end = next;
    at = next;
  }
  return end;
}

/**
 * Turn the marks of references into buttons.
 * @param {DocumentFragment} content sanitized
 */
export function createReferences(content) {
  for (const mark of content.querySelectorAll("[data-footnote]")) {
    const number = mark.getAttribute("data-footnote") ?? "";
    mark.removeAttribute("data-footnote");
    if (!NUMBER.test(number) || mark.localName !== "sup" || mark.closest("a")) continue;
    mark.replaceChildren(createNumber("reference", number, strings.footnotes.open(number)));
  }
}

/**
 * The element of a note: a button that leads back, and the text.
 * @param {string} number
 */
export function createFootnote(number) {
  const note = createElement("div", "footnote");
  note.dataset.number = number;
  const text = createElement("div", "footnote-text");
  text.tabIndex = -1; // receives the focus when its reference is pressed
  note.append(createNumber("back", number, strings.footnotes.back(number)), text);
  return note;
}

/** @param {string} className @param {string} number @param {string} label */
function createNumber(className, number, label) {
  const button = createButton(className, number);
  button.dataset.number = number;
  button.setAttribute("aria-label", label);
  return button;
}

/** The reference that was pressed last, by note. @type {WeakMap<Element, HTMLElement>} */
const origins = new WeakMap();

/**
 * Handle a click on a reference or on the number of a note, in the element that shows the text.
 * @param {MouseEvent} event
 */
export function onFootnoteClick({ target, currentTarget }) {
  const button = target instanceof Element ? target.closest("button") : null;
  if (button === null || !(currentTarget instanceof Element)) return;
  const { number = "" } = button.dataset;
  if (button.className === "reference" && NUMBER.test(number)) {
    const note = currentTarget.querySelector(`.footnote[data-number="${number}"]`);
    if (note !== null) origins.set(note, button);
    show(note?.lastElementChild);
  }
  const note = button.className === "back" ? button.closest(".footnote") : null;
  if (note !== null) {
    const origin = origins.get(note);
    show(origin?.isConnected ? origin : currentTarget.querySelector(`.reference[data-number="${number}"]`));
  }
}

/** @param {Element | null | undefined} element */
function show(element) {
  if (!(element instanceof HTMLElement)) return;
  element.scrollIntoView({ block: "nearest" });
  element.focus({ preventScroll: true });
}
