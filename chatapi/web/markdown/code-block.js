// Code blocks and the buttons of blocks: the element, its text as it grows; copy, download, wrap, preview.
import { copyText } from "../clipboard.js";
import { strings } from "../strings.js";
import { createButton, createElement } from "./elements.js";
import { highlight, highlightGrowing } from "./highlighting.js";
import { offerPreview, removePreview, togglePreview } from "./previews.js";

const COPIED_MS = 2000; // how long the button confirms a copy
/** Endings of file names that differ from the name of the language. @type {Record<string, string>} */
const ENDINGS = {
  bash: "sh", "c#": "cs", "c++": "cpp", csharp: "cs", golang: "go", javascript: "js", kotlin: "kt", markdown: "md", perl: "pl",
  plaintext: "txt", powershell: "ps1", python: "py", ruby: "rb", rust: "rs", shell: "sh", text: "txt", typescript: "ts",
}; // prettier-ignore

/** @param {string} language */
export function createCodeBlock(language) {
  const block = createElement("div", "code-block");
  block.dir = "ltr";
  const head = createElement("div", "code-head");
  const name = createElement("span", "language");
  name.textContent = language;
  head.append(
    name,
    createButton("wrap", strings.code.wrap),
    createButton("download", strings.code.download),
    createButton("copy", strings.copy),
  );
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
    removePreview(block);
    const last = code.lastChild;
    if (last instanceof Text && shown.startsWith(previous)) {
      last.appendData(shown.slice(previous.length));
    } else {
      code.textContent = shown;
    }
  }
  const language = block.querySelector(".language")?.textContent ?? "";
  if (open) return highlightGrowing(code, language);
  highlight(code, language);
  if (!block.classList.contains("previewed")) offerPreview(block, language, shown);
}

/**
 * Handle a click on a button of a code block or a table.
 * @param {Event} event
 */
export async function onBlockClick(event) {
  const button = event.target instanceof Element ? event.target.closest("button") : null;
  const block = button?.closest(".code-block, .table-block");
  const text = block?.querySelector("code")?.textContent ?? "";
  switch (button?.className) {
    case "preview":
      return togglePreview(/** @type {HTMLElement} */ (block), button, text);
    case "wrap":
      button.textContent = block?.classList.toggle("wrapped") ? strings.code.unwrap : strings.code.wrap;
      return;
    case "download":
      return download(text, block?.querySelector(".language")?.textContent ?? "");
    case "copy":
      return confirmCopy(button, await copyText(text));
    case "copy-table":
      return confirmCopy(button, await copyText(toCsv(/** @type {HTMLTableElement} */ (block?.querySelector("table")))));
  }
}

/** @param {Element} button @param {boolean} isCopied */
function confirmCopy(button, isCopied) {
  if (!isCopied) return;
  const label = button.textContent;
  if (label === strings.copied) return;
  button.textContent = strings.copied;
  setTimeout(() => {
    button.textContent = label;
  }, COPIED_MS);
}

/**
 * The cells of a table as comma-separated values (RFC 4180).
 * @param {HTMLTableElement} table
 */
function toCsv(table) {
  const quote = (/** @type {string} */ text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const line = (/** @type {HTMLTableRowElement} */ row) => [...row.cells].map((cell) => quote(cellText(cell))).join(",");
  return `${[...table.rows].map(line).join("\r\n")}\r\n`;
}

/** The text of a cell; a formula as its source. @param {HTMLTableCellElement} cell */
function cellText(cell) {
  const copy = /** @type {HTMLElement} */ (cell.cloneNode(true));
  for (const formula of copy.querySelectorAll(".math"))
    formula.textContent = formula.querySelector("annotation")?.textContent ?? formula.textContent;
  return (copy.textContent ?? "").trim();
}

/**
 * Save a text as a file.
 * @param {string} text
 * @param {string} language decides the ending of the name
 */
function download(text, language) {
  const name = language.toLowerCase();
  const ending = Object.hasOwn(ENDINGS, name) ? ENDINGS[name] : /^[a-z0-9]{1,8}$/.test(name) ? name : "txt";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  link.download = `code.${ending}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
