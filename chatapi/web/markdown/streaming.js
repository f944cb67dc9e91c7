// Renders Markdown as DOM nodes while it is being written.
//
// Blocks are elements with fixed names and attributes that this page creates. The text in a block becomes HTML, and all
// HTML passes through DOMPurify (sanitize.js). A block whose source has not changed keeps its nodes, in lists down to the
// item and in tables down to the cell, so that a selection, the focus and the scroll position are kept.

import { BlockRenderer } from "./blocks.js";
import { onBlockClick } from "./code-block.js";
import { withoutUndecidedLine } from "./complete.js";
import { createElement } from "./elements.js";
import { onFootnoteClick } from "./footnotes.js";
import { isShown } from "./nodes.js";
import { BlockReader } from "./reader.js";

const FRAME_MS = 16; // text that arrives faster than frames is rendered once per frame
const SLICED_CHARACTERS = 40_000; // a longer text is rendered in slices when it is complete, so that no task is long
const CHUNK_BLOCKS = 16; // the browser skips a chunk that is out of view
const SLICE_BLOCKS = 16; // that one task renders, at most
const SLICE_MS = 10; // after which a slice ends
const BURST_CHARACTERS = 1500; // of new text that one task renders at most, while more may follow
const MIN_BURST_CHARACTERS = 375; // on a slow machine
const REVEALED_CHUNKS = 12; // shown one by one, because those in view cost style and layout
const SHARE = 3; // rendering takes at most one third of the time, on slow machines too

/** Shows a text as Markdown in an element, and updates it as the text grows. */
export class StreamingMarkdown {
  text = "";
  ended = false;
  /** No update is rendered before this time, except the last one (milliseconds, as of `performance.now`). */
  restUntil = 0;

  #reader = new BlockReader();
  #renderer = new BlockRenderer();
  /** @type {import("./blocks.js").Block[]} */
  #blocks = [];
  /** The number of blocks at the start that no longer change. */
  #finished = 0;
  /** The number of new characters that one task renders now. */
  #burst = BURST_CHARACTERS;
  /** The number of characters that are shown while the text grows. */
  #shown = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer = undefined;
  /** @type {Element | null} */
  #caret = null;
  /** The number of the current rendering in slices. A rendering with an older number stops. */
  #slices = 0;
  /** Holders of the blocks after the first `CHUNK_BLOCKS`, in order. @type {HTMLElement[]} */
  #chunks = [];
  /** Where new chunks are added: the element, or a fragment until a rendering in slices ends. @type {ParentNode} */
  #growing;

  /** @param {HTMLElement} element */
  constructor(element) {
    this.element = element;
    this.#growing = element;
    element.addEventListener("click", onBlockClick);
    element.addEventListener("click", onFootnoteClick);
  }

  /**
   * Show `text`. An update that follows quickly is rendered in a later frame, the last one at once.
   * @param {string} text
   * @param {boolean} ended whether the text is complete
   */
  set(text, ended) {
    const lines = text.includes("\r") ? text.replace(/\r\n?/g, "\n") : text;
    const shown = ended ? lines : withoutUndecidedLine(lines);
    if (shown === this.text && ended === this.ended) return;
    if (!shown.startsWith(this.text.slice(0, this.#reader.offset))) this.#restart();
    this.text = shown;
    this.ended = ended;
    if (ended || this.restUntil <= performance.now()) this.#render();
    else this.#renderLater();
  }

  #renderLater() {
    this.#timer ??= setTimeout(() => this.#render(), this.restUntil - performance.now());
  }

  /** Read the whole text again. Blocks that come out the same keep their nodes. */
  #restart() {
    this.#finished = 0;
    this.#shown = 0;
    this.#reader.restart();
  }

  #render() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const started = performance.now();
    this.#slices += 1;
    this.#showChunks();
    if (this.ended && this.text.length > SLICED_CHARACTERS) {
      this.#moveCaret();
      void this.#renderInSlices(this.#slices);
      return;
    }
    // In rare cases later text changes how an earlier block is read, so the complete text is read from its start.
    if (this.ended) this.#restart();
    const isBurst = !this.ended && this.text.length - this.#shown > this.#burst;
    const text = isBurst ? withoutUndecidedLine(this.text.slice(0, this.#shown + this.#burst)) : this.text;
    this.#shown = isBurst ? this.#shown + this.#burst : text.length;
    const { tokens, finished, definitions } = this.#reader.read(text, this.ended);
    if (this.#renderer.setDefinitions(definitions)) this.#renderer.relink(this.#blocks.slice(0, this.#finished));
    this.#removeAfter(this.#renderer.reconcileFrom(this.#finished, this.#place, this.#blocks, tokens, !this.ended, 0));
    if (!this.ended) this.#finished += tokens.slice(0, finished).filter(isShown).length;
    this.#moveCaret();
    const cost = performance.now() - started;
    this.restUntil = started + cost + Math.max(FRAME_MS - cost, cost * (SHARE - 1));
    this.#burst = cost > SLICE_MS ? Math.max(MIN_BURST_CHARACTERS, this.#burst / 2) : Math.min(BURST_CHARACTERS, this.#burst * 2);
    if (isBurst) this.#renderLater();
  }

  /**
   * Render the complete text, slice by slice from its start. What is shown already stays until its slice comes. Of a text
   * that is new, the first blocks are shown at once and the others together: each slice would cost style and layout.
   * @param {number} number of this rendering
   */
  async #renderInSlices(number) {
    this.#restart();
    if (this.element.childElementCount === 0) this.#growing = document.createDocumentFragment();
    let at = 0;
    let started = performance.now();
    for (const { tokens, definitions, isLast } of this.#reader.windows(this.text, true)) {
      if (this.#renderer.setDefinitions(definitions)) this.#renderer.relink(this.#blocks.slice(0, at));
      for (let from = 0; from < tokens.length; from += SLICE_BLOCKS) {
        const some = tokens.slice(from, from + SLICE_BLOCKS);
        at = this.#renderer.reconcileFrom(at, this.#place, this.#blocks, some, false, 0);
        if (performance.now() - started < SLICE_MS) continue;
        await new Promise((resolve) => setTimeout(resolve));
        if (number !== this.#slices) return; // the text has changed meanwhile
        started = performance.now();
      }
      if (isLast) this.#removeAfter(at);
    }
    const chunks = this.#growing === this.element ? [] : [...this.#chunks];
    for (const chunk of chunks) chunk.classList.add("waiting");
    this.#showChunks();
    await reveal(chunks);
  }

  /** The parent of the block at this index. @param {number} index */
  #place = (index) => {
    if (index < CHUNK_BLOCKS) return this.element;
    const number = Math.floor(index / CHUNK_BLOCKS) - 1;
    if (this.#chunks[number] === undefined) {
      this.#chunks[number] = createElement("div", "chunk");
      this.#growing.append(this.#chunks[number]);
    }
    return this.#chunks[number];
  };

  /** Show the chunks that were kept back. */
  #showChunks() {
    if (this.#growing === this.element) return;
    this.element.append(/** @type {DocumentFragment} */ (this.#growing));
    this.#growing = this.element;
  }

  /** Remove the blocks from an index on. @param {number} index */
  #removeAfter(index) {
    for (const { node } of this.#blocks.splice(index)) node.remove();
    const count = Math.max(0, Math.ceil(index / CHUNK_BLOCKS) - 1);
    for (const chunk of this.#chunks.splice(count)) chunk.remove();
  }

  /** Mark the element at whose end the next text will appear. */
  #moveCaret() {
    const end = this.ended ? null : lastLine(this.element);
    if (end === this.#caret) return;
    this.#caret?.classList.remove("caret");
    if (this.#caret?.className === "") this.#caret.removeAttribute("class");
    end?.classList.add("caret");
    this.#caret = end;
  }
}

/**
 * Show chunks, those at the end and the start first: the reader is there.
 * @param {HTMLElement[]} chunks
 */
async function reveal(chunks) {
  for (let count = 0; count < chunks.length; count += 1) {
    const chunk = count % 2 === 0 ? chunks[chunks.length - 1 - count / 2] : chunks[(count - 1) / 2];
    chunk.classList.remove("waiting");
    if (count < REVEALED_CHUNKS) await new Promise((resolve) => setTimeout(resolve, FRAME_MS));
  }
}

/**
 * The innermost block at the end of an element; null if it has none.
 * @param {Element} element
 */
function lastLine(element) {
  let last = element.lastElementChild;
  while (last?.matches(".chunk, ul, ol, li, blockquote, details, .alert, .aligned, .footnote, .footnote-text, .code-block, .table-block")) {
    const inner = last.matches(".code-block") ? last.querySelector("code") : last.matches(".table-block") ? lastCell(last) : last.lastElementChild;
    if (inner === null) break;
    last = inner;
  }
  return last;
}

/** @param {Element} table */
function lastCell(table) {
  return [...table.querySelectorAll("th, td")].at(-1) ?? null;
}
