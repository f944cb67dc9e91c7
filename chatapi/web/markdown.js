import { marked } from "./vendor/marked.js";
import DOMPurify from "./vendor/purify.js";
export class StreamingMarkdown {
  /** @param {HTMLElement} element */
  constructor(element) { this.element = element; }
  /** @param {string} text */
  set(text) { this.element.innerHTML = DOMPurify.sanitize(/** @type {string} */ (marked.parse(text))); }
}
