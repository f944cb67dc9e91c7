// The HTML that an answer may contain: an allow-list, and DOMPurify, which enforces it.
import "../vendor/purify.js"; // a classic script: it defines a global variable
import { createReferences } from "./footnotes.js";
import { createFormula } from "./math.js";

const LINK = /^(?:https?:\/\/|mailto:)/i;
const ALIGNMENT = /^(?:left|right|center|justify)$/i;
const EMBEDDED_IMAGE = /^data:image\/(?:png|jpeg|gif|webp);base64,[a-z0-9+/=]+$/i;

// HTML for what Markdown cannot express. Other tags are shown as text.
const TAGS = [
  "a", "abbr", "b", "bdi", "bdo", "br", "cite", "code", "dd", "del", "dfn", "div", "dl", "dt", "em", "i", "img", "ins",
  "kbd", "li", "mark", "ol", "p", "q", "rp", "rt", "ruby", "s", "samp", "small", "span", "strong", "sub", "sup", "table",
  "tbody", "td", "tfoot", "th", "thead", "tr", "u", "ul", "var", "wbr",
]; // prettier-ignore
const VOID_TAGS = new Set(["br", "img", "wbr"]);
const PLAIN_ATTRIBUTES = ["align", "alt", "colspan", "data-footnote", "data-math", "dir", "rowspan", "start", "title"];
const ATTRIBUTES = [...PLAIN_ATTRIBUTES, "href", "src"];

const purify = globalThis.DOMPurify(window);
purify.setConfig({
  ALLOWED_TAGS: TAGS,
  ALLOWED_ATTR: ATTRIBUTES,
  ADD_URI_SAFE_ATTR: PLAIN_ATTRIBUTES,
  ALLOWED_URI_REGEXP: LINK,
  ALLOW_ARIA_ATTR: false,
  ALLOW_DATA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
});
purify.addHook("afterSanitizeAttributes", restrictAddresses);

/**
 * Convert HTML to nodes that are safe to show.
 * @param {string} html
 * @returns {{content: DocumentFragment, formulas: HTMLElement[]}} `formulas` are in `content`, not rendered yet
 */
export function sanitize(html) {
  const content = /** @type {DocumentFragment} */ (purify.sanitize(html));
  createReferences(content);
  const formulas = [...content.querySelectorAll("[data-math]")].map((source) => {
    const formula = createFormula(source.textContent ?? "", source.getAttribute("data-math") === "display");
    source.replaceWith(formula);
    return formula;
  });
  return { content, formulas };
}

/** @param {string} text */
export function escapeHtml(text) {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/**
 * Yield the tags in a piece of HTML. The name is "" for comments and declarations.
 * @param {string} html
 */
function* tagsIn(html) {
  for (const [, slash, name] of html.matchAll(/<(\/?)([a-z][^\s/>]*|[!?])/gi)) {
    yield { ends: slash === "/", name: name.toLowerCase() };
  }
}

/** @param {string} html */
export function hasKnownTags(html) {
  return [...tagsIn(html)].every(({ name }) => TAGS.includes(name));
}

/**
 * Whether HTML is complete: all tags are known, and each one is closed.
 * @param {string} html
 */
export function isBalanced(html) {
  const open = new Map();
  for (const { ends, name } of tagsIn(html))
    if (!VOID_TAGS.has(name)) open.set(name, (open.get(name) ?? 0) + (ends ? -1 : 1));
  return hasKnownTags(html) && [...open.values()].every((count) => count === 0);
}

/**
 * Remove unknown attributes. DOMPurify would remove them too, but it lets the browser parse the HTML first, and the
 * browser then reports handlers and styles as violations of the page's policy.
 * @param {string} html
 */
export function stripUnknownAttributes(html) {
  // Linear time: no tag starts after the last ">", and an attribute's name starts where the one before it has ended.
  const end = html.lastIndexOf(">") + 1;
  const tags = html.slice(0, end).replace(/<([a-z][^\s/>]*)([^>]*)>/gi, (_, name, attributes) => {
    const all = attributes.matchAll(/(?<![a-z-])([a-z-]+)\s*=\s*("[^"]*"|'[^']*'|[^\s"'=<>`]+)/gi);
    const known = [...all].filter(([, attribute]) => ATTRIBUTES.includes(attribute.toLowerCase()));
    return `<${name}${known.map(([attribute]) => ` ${attribute}`).join("")}>`;
  });
  return tags + html.slice(end);
}

/**
 * Hook of DOMPurify: links open in a new tab without a referrer; an image from another server becomes a link.
 * @param {Element} node
 */
function restrictAddresses(node) {
  const name = node.localName;
  const href = node.getAttribute("href");
  const source = node.getAttribute("src");
  if (name === "a" && href !== null && isLink(href)) openInNewTab(node);
  else node.removeAttribute("href");
  if (!ALIGNMENT.test(node.getAttribute("align") ?? "center")) node.removeAttribute("align");
  if (name !== "img") node.removeAttribute("src");
  else if (source === null || !EMBEDDED_IMAGE.test(source)) {
    const link = node.ownerDocument.createElement(node.closest("a") ? "span" : "a");
    link.textContent = node.getAttribute("alt") || source || "";
    if (link.localName === "a" && source !== null && isLink(source)) {
      link.setAttribute("href", source);
      openInNewTab(link);
    }
    node.replaceWith(link);
  }
}

/** @param {Element} link */
function openInNewTab(link) {
  link.setAttribute("target", "_blank");
  link.setAttribute("rel", "noopener noreferrer nofollow");
}

/** @param {string} href */
function isLink(href) {
  return LINK.test(href) && URL.canParse(href) && ["http:", "https:", "mailto:"].includes(new URL(href).protocol);
}
