// Markdown in a component.
import { StreamingMarkdown } from "../markdown/streaming.js";
import { html, useLayoutEffect, useRef } from "../vendor/htm-preact.js";

/** @param {{text: string, ended: boolean}} properties */
export function Markdown({ text, ended }) {
  const box = useRef(/** @type {HTMLDivElement | null} */ (null));
  const markdown = useRef(/** @type {StreamingMarkdown | null} */ (null));
  useLayoutEffect(() => {
    if (box.current === null) return;
    markdown.current ??= new StreamingMarkdown(box.current);
    markdown.current.set(text, ended);
  }, [text, ended]);
  return html`<div class="markdown" ref=${box}></div>`;
}
