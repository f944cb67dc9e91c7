// Previews of code blocks: HTML and SVG on request, Mermaid diagrams as soon as they are complete.
//
// All of it happens in sandboxed frames, which have an origin of their own, see preview/frame.js. A diagram comes back as
// an SVG image: images run no scripts and load nothing.
import { strings } from "../strings.js";
import { createButton, createElement } from "./elements.js";

const FRAME = new URL("../preview/frame.html", import.meta.url).href;
const MAX_CHARACTERS = 200_000;
const MAX_DIAGRAM_CHARACTERS = 20_000;
const MIN_HEIGHT = 60; // pixels
const MAX_HEIGHT = 640;
const DRAWING_MS = 15_000; // for one diagram, including the library; then the frame is replaced

/**
 * Add the preview of complete code, or a button for it. Does nothing for other languages.
 * @param {HTMLElement} block
 * @param {string} language
 * @param {string} text
 */
export function offerPreview(block, language, text) {
  const name = language.toLowerCase();
  const isMarkup = ["html", "htm", "svg"].includes(name) || (name === "xml" && /^\s*<svg[\s>]/i.test(text));
  if (isMarkup && text.length <= MAX_CHARACTERS) addButton(block);
  else if (name === "mermaid" && text.length <= MAX_DIAGRAM_CHARACTERS) drawDiagram(block, text);
}

/** Remove the preview, because the code has changed. @param {HTMLElement} block */
export function removePreview(block) {
  block.classList.remove("previewed");
  block.querySelector(".preview-box")?.remove();
  block.querySelector("button.preview")?.remove();
}

/** @param {HTMLElement} block */
function addButton(block) {
  if (block.querySelector("button.preview") === null)
    block.querySelector(".language")?.after(createButton("preview", strings.code.preview));
}

/**
 * Show the preview in place of the code, or the code again.
 * @param {HTMLElement} block
 * @param {HTMLElement} button
 * @param {string} text
 */
export function togglePreview(block, button, text) {
  const isShown = block.classList.toggle("previewed");
  button.textContent = isShown ? strings.code.showCode : strings.code.preview;
  const box = block.querySelector(".preview-box");
  if (box?.querySelector("img")) return; // a diagram stays
  box?.remove();
  if (isShown) createBox(block).append(createMarkupFrame(text));
}

/** @param {HTMLElement} block */
function createBox(block) {
  const box = createElement("div", "preview-box");
  box.dir = "ltr";
  block.append(box);
  return box;
}

function createFrame() {
  const frame = /** @type {HTMLIFrameElement} */ (createElement("iframe"));
  frame.setAttribute("sandbox", "allow-scripts"); // for frame.js; without allow-same-origin
  frame.title = strings.code.preview;
  frame.src = FRAME;
  return frame;
}

/**
 * Receive the messages of a frame while it is in the document.
 * @param {HTMLIFrameElement} frame
 * @param {(data: any) => void} receive
 */
function listen(frame, receive) {
  const onMessage = (/** @type {MessageEvent} */ { source, data }) => {
    if (source === frame.contentWindow && source !== null) receive(data);
    else if (!frame.isConnected) removeEventListener("message", onMessage);
  };
  addEventListener("message", onMessage);
}

/** @param {string} text */
function createMarkupFrame(text) {
  const frame = createFrame();
  listen(frame, ({ ready, height }) => {
    if (ready) frame.contentWindow?.postMessage({ kind: "markup", text }, "*");
    if (Number.isFinite(height)) frame.height = `${Math.min(MAX_HEIGHT, Math.max(MIN_HEIGHT, Math.ceil(height)))}`;
  });
  return frame;
}

// Diagrams: one frame draws them all, one after the other.

/** @typedef {{block: HTMLElement, text: string}} Diagram */

/** @type {Diagram[]} */
const queue = [];
/** @type {Diagram | null} */
let current = null;
/** @type {HTMLIFrameElement | null} */
let drawer = null;
let isReady = false;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;

/** @param {HTMLElement} block @param {string} text */
function drawDiagram(block, text) {
  queue.push({ block, text });
  if (current === null) drawNext();
}

function drawNext() {
  clearTimeout(timer);
  current = queue.shift() ?? null;
  if (current === null) return;
  drawer ??= createDrawer();
  if (isReady) drawer.contentWindow?.postMessage({ kind: "diagram", text: current.text }, "*");
  timer = setTimeout(() => {
    drawer?.remove(); // it hangs, or the library cannot be loaded
    drawer = null;
    drawNext();
  }, DRAWING_MS);
}

function createDrawer() {
  const frame = createFrame();
  frame.className = "drawer";
  frame.tabIndex = -1;
  frame.setAttribute("aria-hidden", "true");
  isReady = false;
  listen(frame, ({ ready, svg }) => {
    if (ready) {
      isReady = true;
      if (current !== null) frame.contentWindow?.postMessage({ kind: "diagram", text: current.text }, "*");
    } else if (current !== null) {
      if (typeof svg === "string") showDiagram(current, svg);
      drawNext();
    }
  });
  document.body.append(frame);
  return frame;
}

/** @param {Diagram} diagram @param {string} svg */
function showDiagram({ block, text }, svg) {
  if (block.querySelector("code")?.textContent !== text) return;
  block.querySelector(".preview-box")?.remove();
  const image = /** @type {HTMLImageElement} */ (createElement("img", "diagram"));
  image.alt = strings.code.diagram;
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svg)}`;
  createBox(block).append(image);
  addButton(block);
  block.classList.add("previewed");
  /** @type {Element} */ (block.querySelector("button.preview")).textContent = strings.code.showCode;
}
