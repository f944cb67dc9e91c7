// Colours for code, found by highlight.js in a worker: whatever the code does to its patterns, the page goes on.

const MAX_CODE = 30_000; // characters; longer code stays plain
const MAX_PIECES = 20_000;
const PATIENCE_MS = 2000; // the longest that one piece of code may take
const KNOWN = /^[a-z0-9+#-]{1,20}$/i;

const URL_OF_WORKER = new URL("./highlighting-worker.js", import.meta.url);
/**
 * Where a browser lets only trusted addresses become scripts, this one is: the page's policy knows no other.
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
let busy = false;
/** What has been coloured, or is about to be. @type {WeakMap<HTMLElement, string>} */
const seen = new WeakMap();

/**
 * Colour this code, which is whole, when its turn comes. In a language that is not known it stays as it is.
 * @param {HTMLElement} code
 * @param {string} language
 */
export function highlight(code, language) {
  const text = code.textContent ?? "";
  if (seen.get(code) === text || text === "" || text.length > MAX_CODE || !KNOWN.test(language)) return;
  seen.set(code, text);
  jobs.push({ code, text, language });
  if (!busy) work();
}

async function work() {
  busy = true;
  for (let job = jobs.shift(); job !== undefined; job = jobs.shift()) {
    const pieces = await coloured(job.text, job.language);
    if (pieces !== null && pieces.length <= MAX_PIECES && job.code.textContent === job.text) show(job.code, pieces);
  }
  busy = false;
}

/**
 * @param {string} text
 * @param {string} language
 * @returns {Promise<Piece[] | null>}
 */
function coloured(text, language) {
  worker ??= new Worker(SCRIPT, { type: "module" });
  const asked = worker;
  return new Promise((resolve) => {
    /** @param {Piece[] | null} pieces @param {boolean} usable */
    const answer = (pieces, usable) => {
      clearTimeout(timer);
      if (!usable) {
        asked.terminate();
        worker = null;
      }
      resolve(pieces);
    };
    const timer = setTimeout(() => answer(null, false), PATIENCE_MS);
    asked.onmessage = ({ data }) => answer(data, true);
    asked.onerror = () => answer(null, false);
    asked.postMessage({ text, language });
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
  const coloured = document.createDocumentFragment();
  for (const node of nodes) coloured.append(node);
  code.replaceChildren(coloured);
}
