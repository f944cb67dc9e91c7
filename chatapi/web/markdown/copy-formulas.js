// Copies formulas as TeX. A rendered formula contains its symbols twice, as HTML and as MathML, in no readable order.

const FORMULA = ".math";

/**
 * Handle a copy: replace the rendered formulas of the selection with their sources. Without any, the browser copies.
 * @param {ClipboardEvent} event
 */
export function copyFormulas(event) {
  const selection = getSelection();
  if (selection === null || selection.isCollapsed || selection.rangeCount === 0 || event.clipboardData === null) return;
  const range = selection.getRangeAt(0).cloneRange();
  const [first, last] = [range.startContainer, range.endContainer].map(formulaAround);
  if (first) range.setStartBefore(first); // a formula that is partly selected is copied as a whole
  if (last) range.setEndAfter(last);
  const content = document.createElement("div");
  content.append(range.cloneContents());
  const formulas = [...content.querySelectorAll(FORMULA)].filter((formula) => formula.querySelector("annotation"));
  if (formulas.length === 0) return;
  for (const formula of formulas) formula.textContent = source(formula);
  event.clipboardData.setData("text/html", content.innerHTML);
  event.clipboardData.setData("text/plain", visibleText(content));
  event.preventDefault();
}

/** @param {Node} node */
function formulaAround(node) {
  return (node instanceof Element ? node : node.parentElement)?.closest(FORMULA);
}

/** @param {Element} formula */
function source(formula) {
  const mark = formula.classList.contains("display") ? "$$" : "$";
  return mark + (formula.querySelector("annotation")?.textContent ?? "") + mark;
}

/** The text as it is laid out, with its line breaks. @param {HTMLElement} content */
function visibleText(content) {
  content.className = "copied";
  document.body.append(content);
  const text = content.innerText;
  content.remove();
  return text;
}
