// Syntax highlighting with highlight.js in a worker, so that slow patterns do not block the page. Code that still grows is
// highlighted too, up to its last complete line.

const MAX_CODE_CHARACTERS = 30_000; // longer code stays plain
const MAX_PIECES = 20_000;
const TIMEOUT_MS = 2000; // for one code block
const GROWING_MS = 300; // between two passes over code that grows; longer after a slow pass
const SHARE = 10; // passes take at most one tenth of the worker's time
const LANGUAGE = /^[a-z0-9+#-]{1,20}$/i;

const URL_OF_WORKER = new URL("./highlighting-worker.js", import.meta.url);
/**
 * With trusted types, only a policy can turn an address into a script; this one allows the worker's address alone.
 * @type {string | URL}
 */
const SCRIPT =
  /** @type {any} */ (globalThis).trustedTypes
    ?.createPolicy("highlighting", { createScriptURL: () => URL_OF_WORKER.href })
    .createScriptURL("") ?? URL_OF_WORKER;

/** @typedef {{code: HTMLElement, text: string, language: string}} Job */
/** @typedef {[text: string, scopes: string]} Piece */

/** @type {Job[]} */
const jobs = [];
/** @type {Worker | null} */
let worker = null;
let isWorking = false;
/** The text that is highlighted, or will be, by element. @type {WeakMap<HTMLElement, string>} */
const done = new WeakMap();

/**
 * Highlight complete code when its turn comes. Code in an unknown language stays plain.
 * @param {HTMLElement} code
 * @param {string} language
 */
export function highlight(code, language) {
  const text = code.textContent ?? "";
  if (done.get(code) === text || text === "" || text.length > MAX_CODE_CHARACTERS || !LANGUAGE.test(language)) return;
  done.set(code, text);
  jobs.push({ code, text, language });
  if (!isWorking) void work();
}

/** When growing code may be highlighted again, as of `performance.now`. @type {WeakMap<HTMLElement, number>} */
const nextPass = new WeakMap();

/**
 * Highlight the complete lines of code that still grows.
 * @param {HTMLElement} code
 * @param {string} language
 */
export function highlightGrowing(code, language) {
  const now = performance.now();
  if (isWorking || now < (nextPass.get(code) ?? 0) || !LANGUAGE.test(language)) return;
  const all = code.textContent ?? "";
  const text = all.slice(0, all.lastIndexOf("\n") + 1);
  if (text === "" || text.length > MAX_CODE_CHARACTERS || done.get(code) === text || isSelected(code)) return;
  done.set(code, text);
  nextPass.set(code, Infinity); // until this pass is over
  jobs.push({ code, text, language });
  void work();
}

/** Whether the reader has selected text in this code. New nodes would end the selection. @param {HTMLElement} code */
function isSelected(code) {
  const selection = getSelection();
  return selection !== null && !selection.isCollapsed && selection.containsNode(code, true);
}

async function work() {
  isWorking = true;
  for (let job = jobs.shift(); job !== undefined; job = jobs.shift()) {
    const started = performance.now();
    const pieces = await findPieces(job.text, job.language);
    const now = performance.now();
    nextPass.set(job.code, now + Math.max(GROWING_MS, SHARE * (now - started)));
    const shown = job.code.textContent ?? "";
    const isWhole = shown === job.text;
    if (pieces !== null && pieces.length <= MAX_PIECES && shown.startsWith(job.text) && (isWhole || !isSelected(job.code)))
      show(job.code, [...pieces, [shown.slice(job.text.length), ""]]);
  }
  isWorking = false;
}

/**
 * @param {string} text
 * @param {string} language
 * @returns {Promise<Piece[] | null>}
 */
function findPieces(text, language) {
  worker ??= new Worker(SCRIPT, { type: "module" });
  const current = worker;
  return new Promise((resolve) => {
    /** @param {Piece[] | null} pieces @param {boolean} isUsable */
    const finish = (pieces, isUsable) => {
      clearTimeout(timer);
      if (!isUsable) {
        current.terminate();
        worker = null;
      }
      resolve(pieces);
    };
    const timer = setTimeout(() => finish(null, false), TIMEOUT_MS);
    current.onmessage = ({ data }) => finish(data, true);
    current.onerror = () => finish(null, false);
    current.postMessage({ text, language });
  });
}

/**
 * @param {HTMLElement} code
 * @param {Piece[]} pieces
 */
function show(code, pieces) {
  const nodes = pieces.map(([text, scopes]) => {
    if (scopes === "") return document.createTextNode(text);
    const span = document.createElement("span");
    span.className = scopes;
    span.textContent = text;
    return span;
  });
  const fragment = document.createDocumentFragment();
  for (const node of nodes) fragment.append(node);
  code.replaceChildren(fragment);
}
