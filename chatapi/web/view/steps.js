// The steps of an answer beside its text: reasoning, calls of tools, and sources. Each can be expanded.
import { strings } from "../strings.js";
import { html } from "../vendor/htm-preact.js";
import { Icon } from "./icons.js";
import { Markdown } from "./markdown.js";

/** @typedef {import("../types.d.ts").Part} Part */

/**
 * @param {{icon: import("./icons.js").IconName, label: unknown, class: string, live?: boolean, children?: unknown}} properties
 */
export function Step({ icon, label, class: kind, live = false, children }) {
  return html`<details class="step ${kind}">
    <summary class=${live ? "thinking" : ""}><${Icon} name=${icon} /><span>${label}</span><${Icon} name="open" /></summary>
    ${children}
  </details>`;
}

/** @param {{part: Part, seconds: number | null, open: boolean}} properties `open` while more of it may follow */
export function Reasoning({ part, seconds, open }) {
  const label = open ? strings.message.reasoningNow : seconds !== null ? strings.message.thought(`${Math.max(1, Math.round(seconds))} s`) : strings.message.reasoning;
  return html`<${Step} icon="idea" class="reasoning" label=${label} live=${open}>
    <${Markdown} text=${part.text ?? ""} ended=${!open} />
  <//>`;
}

/** @param {{part: Part, open: boolean}} properties */
export function ToolCall({ part, open }) {
  return html`<${Step} icon="tool" class="call" live=${open} label=${strings.message.call(part.name ?? "")}>
    <pre>${indented(part.arguments ?? "")}</pre>
  <//>`;
}

/** JSON with line breaks; other text as it is. @param {string} text */
function indented(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

/** @param {{parts: Part[]}} properties */
export function Sources({ parts }) {
  const sources = new Map(parts.flatMap(annotationsIn).flatMap(sourceOf));
  if (sources.size === 0) return null;
  return html`<${Step} icon="sources" class="sources" label=${`${strings.message.sources} (${sources.size})`}>
    <ol>
      ${[...sources].map(
        ([url, title]) => html`<li><a href=${url} target="_blank" rel="noopener noreferrer nofollow" dir="auto">${title}</a></li>`,
      )}
    </ol>
  <//>`;
}

/**
 * The annotations in a part: an object as the API lists them, or lines of JSON as the stream sends them.
 * @param {Part} part
 * @returns {NonNullable<Part["annotation"]>[]}
 */
function annotationsIn(part) {
  if (part.type !== "annotation") return [];
  if (part.annotation !== undefined) return [part.annotation];
  const lines = (part.text ?? "").split("\n").slice(0, -1);
  return lines.map((line) => JSON.parse(line));
}

/**
 * @param {NonNullable<Part["annotation"]>} annotation
 * @returns {[string, string][]} address and title; nothing unless the address is http or https
 */
function sourceOf(annotation) {
  const { url, title } = annotation.url_citation ?? annotation;
  return typeof url === "string" && /^https?:\/\//i.test(url) ? [[url, typeof title === "string" ? title : url]] : [];
}
