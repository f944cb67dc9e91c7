// Code blocks: the element, its text as it grows, and the button that copies it.
import { copyText } from "../clipboard.js";
import { strings } from "../strings.js";
import { highlight } from "./highlighting.js";

const COPIED_MS = 2000; // how long the button confirms a copy

/** @param {string} language */
export function createCodeBlock(language) {
  const block = createElement("div", "code-block");
  block.dir = "ltr";
  const head = createElement("div", "code-head");
  const name = createElement("span", "language");
  name.textContent = language;
  const button = /** @type {HTMLButtonElement} */ (createElement("button", "copy"));
  button.type = "button";
  button.textContent = strings.copy;
  head.append(name, button);
  const box = createElement("pre");
  box.tabIndex = 0; // for scrolling with the keyboard
  const code = createElement("code");
  code.append("");
  box.append(code);
  block.append(head, box);
  return block;
}

/**
 * @param {HTMLElement} block
 * @param {string} text
 * @param {boolean} open whether more may follow
 */
export function updateCode(block, text, open) {
  const code = /** @type {HTMLElement} */ (block.querySelector("code"));
  // A last line that may become the closing fence is not shown as code.
  const shown = open ? text.replace(/(?:^|\n) {0,3}(?:`{1,}|~{1,})$/, "") : text;
  const previous = code.textContent ?? "";
  if (shown !== previous) {
    const only = code.firstChild;
    if (only instanceof Text && code.childNodes.length === 1 && shown.startsWith(previous)) {
      only.appendData(shown.slice(previous.length));
    } else {
      code.textContent = shown;
    }
  }
  if (!open) highlight(code, block.querySelector(".language")?.textContent ?? "");
}

/**
 * Handle a click: copy the code if it was on the copy button of a code block.
 * @param {Event} event
 */
export async function copyCode(event) {
  const button = event.target instanceof Element ? event.target.closest("button.copy") : null;
  const code = button?.closest(".code-block")?.querySelector("code");
  if (!button || !code) return;
  if (!(await copyText(code.textContent ?? ""))) return;
  button.textContent = strings.copied;
  setTimeout(() => {
    button.textContent = strings.copy;
  }, COPIED_MS);
}

/** @param {string} name @param {string} [className] */
export function createElement(name, className) {
  const element = document.createElement(name);
  if (className) element.className = className;
  return element;
}
