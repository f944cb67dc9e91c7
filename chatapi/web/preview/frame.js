// The document of a preview: shows HTML or SVG without its scripts, or draws a diagram. It runs in a sandboxed frame with
// an origin of its own; its policy (page.py) loads nothing from other servers and runs no inline script.

const SCRIPT = /** @type {HTMLScriptElement} */ (document.currentScript);
const LOADED = /^\s*(?:#|data:image\/)/i; // other addresses are removed; styles are left to the policy
const ADDRESSES = ["action", "background", "cite", "data", "formaction", "href", "longdesc", "poster", "src", "srcset", "xlink:href"];
const OPTIONS = {
  startOnLoad: false,
  securityLevel: "strict",
  suppressErrorRendering: true,
  theme: "neutral",
  fontFamily: "system-ui, sans-serif",
  htmlLabels: false, // text of SVG: the result is shown as an image
  flowchart: { htmlLabels: false },
  maxTextSize: 20_000,
  maxEdges: 300,
};

/** @typedef {{render(id: string, text: string): Promise<{svg: string}>, initialize(options: object): void}} Mermaid */

/** @param {string} text */
function showMarkup(text) {
  const purify = /** @type {any} */ (globalThis).DOMPurify;
  purify.addHook("afterSanitizeAttributes", (/** @type {Element} */ node) => {
    for (const name of ADDRESSES) if (!LOADED.test(node.getAttribute(name) ?? "#")) node.removeAttribute(name);
  });
  const html = purify.sanitize(text, { WHOLE_DOCUMENT: true, ADD_TAGS: ["style"], FORCE_BODY: false });
  const shown = new DOMParser().parseFromString(html, "text/html");
  document.documentElement.replaceWith(document.adoptNode(shown.documentElement));
  new ResizeObserver(() => {
    parent.postMessage({ height: document.documentElement.getBoundingClientRect().height }, "*");
  }).observe(document.documentElement);
}

/** @type {Promise<Mermaid> | null} */
let loading = null;
let drawn = 0;

/** @returns {Promise<Mermaid>} */
function loadMermaid() {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = new URL("../vendor/mermaid.js", SCRIPT.src).href;
    script.onload = () => {
      const { mermaid } = /** @type {any} */ (globalThis);
      mermaid.initialize(OPTIONS);
      resolve(mermaid);
    };
    script.onerror = reject;
    document.head.append(script);
  });
}

/**
 * Draw a diagram and send it as the source of an SVG image with a size.
 * @param {string} text
 */
async function draw(text) {
  try {
    loading ??= loadMermaid();
    drawn += 1;
    const { svg } = await (await loading).render(`diagram-${drawn}`, text);
    const image = new DOMParser().parseFromString(svg, "text/html").querySelector("svg");
    const { width = 0, height = 0 } = image?.viewBox.baseVal ?? {};
    image?.setAttribute("width", String(Math.ceil(width)));
    image?.setAttribute("height", String(Math.ceil(height)));
    parent.postMessage({ svg: image === null ? null : new XMLSerializer().serializeToString(image) }, "*");
  } catch {
    parent.postMessage({ svg: null }, "*"); // not a diagram; its source stays
  }
}

addEventListener("message", ({ source, data }) => {
  if (source !== parent) return;
  if (data.kind === "markup") showMarkup(data.text);
  else void draw(data.text);
});
parent.postMessage({ ready: true }, "*");
