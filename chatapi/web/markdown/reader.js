// Reads Markdown with marked: blocks incrementally, as a text grows, and the inline content of one block as HTML.
import { Lexer, Marked, Parser } from "../vendor/marked.js";
import { alignedToken, detailsToken } from "./containers.js";
import { footnoteTokens } from "./footnotes.js";
import { mathTokens } from "./math.js";
import { isShown, verbatim } from "./nodes.js";
import { escapeHtml, hasKnownTags, stripUnknownAttributes } from "./sanitize.js";

/** @typedef {import("../vendor/marked.js").Token} Token */
/**
 * Names that a text defines and its other parts refer to: link definitions, and the numbers of footnotes.
 * @typedef {{links: import("../vendor/marked.js").Links, footnotes: Record<string, number>}} Definitions
 */

const WINDOW = 16_384; // characters that are read at once, unless one block is longer
const SLOW_READ_MS = 200; // of one read: a busy machine exceeds it now and then, a text that is hard to read always does
const MAX_SLOW_MS = 600; // of slow reads in a row from the same offset: the text from there on is shown verbatim
const NESTED = /^(?:[ \t]*(?:>|[-*+][ \t]|\d{1,9}[.)][ \t])){100}/m; // 100 quotes and lists in each other on one line
const MAX_MARKS = 1500; // characters in a paragraph that may start emphasis, code or a link; beyond that it is not prose
const LONG_WORD = /[\w.!#$%&'*+/=?^`{|}~-]{2000}/; // marked tries each of its characters as the start of an email address

const marked = new Marked({ gfm: true, extensions: [...mathTokens, ...footnoteTokens, detailsToken, alignedToken] });
marked.use({
  renderer: {
    html: ({ text }) => (hasKnownTags(text) ? stripUnknownAttributes(text) : escapeHtml(text)),
    link({ href, title, tokens, autolink, text }) {
      const label = autolink ? escapeHtml(text) : this.parser.parseInline(tokens);
      return `<a href="${escapeHtml(href)}"${title ? ` title="${escapeHtml(title)}"` : ""}>${label}</a>`;
    },
    image: ({ href, text }) => `<img src="${escapeHtml(href)}" alt="${escapeHtml(text || href.slice(0, 100))}">`,
  },
});

/**
 * @param {Definitions} [known]
 * @returns {Definitions} a copy
 */
export function createDefinitions(known) {
  return {
    links: Object.assign(Object.create(null), known?.links),
    footnotes: Object.assign(Object.create(null), known?.footnotes),
  };
}

/**
 * @param {Definitions} definitions
 * @param {boolean} ended whether no more text follows
 */
function createLexer({ links, footnotes }, ended) {
  const lexer = new Lexer(marked.defaults);
  lexer.tokens.links = links;
  lexer.footnotes = footnotes;
  lexer.ended = ended;
  return lexer;
}

/** Reads the blocks of a growing text. Blocks that later text cannot change are read once. */
export class BlockReader {
  /** Where the first block starts that later text may change. */
  offset = 0;

  /** Definitions in the blocks before `offset`. */
  #finished = createDefinitions();
  /** Where the last slow read started, and how long it and those before it from there took. */
  #slowOffset = -1;
  #slowMs = 0;

  /** Read from the start again. */
  restart() {
    this.offset = 0;
    this.#finished = createDefinitions();
  }

  /**
   * Read the blocks after `offset`, and advance it. A long text is read in windows, which costs less than all at once.
   * @param {string} text the whole text
   * @param {boolean} ended
   * @returns {{tokens: Token[], finished: number, definitions: Definitions}} the blocks, how many of them later text
   *   cannot change, and the definitions of the whole text, which may follow their use
   */
  read(text, ended) {
    /** @type {Token[]} */
    const tokens = [];
    for (const part of this.windows(text, ended)) {
      tokens.push(...part.tokens);
      if (part.isLast) return { tokens, finished: tokens.length - part.tokens.length + part.finished, definitions: part.definitions };
    }
    throw new Error("there is always a last window");
  }

  /**
   * Read the same window by window. The definitions are those of the windows so far; the object is the same each time.
   * @param {string} text
   * @param {boolean} ended
   * @returns {Generator<{tokens: Token[], finished: number, definitions: Definitions, isLast: boolean}>}
   */
  *windows(text, ended) {
    const definitions = createDefinitions(this.#finished);
    let { offset } = this;
    for (let size = WINDOW; ; ) {
      const isLast = text.length - offset <= size;
      const part = text.slice(offset, isLast ? undefined : offset + size);
      const blocks = this.#readPart(part, offset, definitions, ended && isLast);
      const settled = settledBlocks(blocks, part);
      if (settled.count > 0) size = WINDOW;
      else size *= 2;
      if (isLast) {
        if (!ended) this.#advance(text, offset + settled.length);
        yield { tokens: blocks, finished: settled.count, definitions, isLast };
        return;
      }
      offset += settled.length;
      yield { tokens: blocks.slice(0, settled.count), finished: settled.count, definitions, isLast };
    }
  }

  /**
   * Keep the definitions of the blocks that are finished now. One at the end of the text may still grow.
   * @param {string} text
   * @param {number} offset where the finished blocks end
   */
  #advance(text, offset) {
    const finished = text.slice(this.offset, offset);
    if (finished.includes("]:")) this.#readPart(finished, this.offset, this.#finished, false);
    this.offset = offset;
  }

  /**
   * @param {string} text
   * @param {number} offset of this part
   * @param {Definitions} definitions receives those in this part
   * @param {boolean} ended
   * @returns {Token[]}
   */
  #readPart(text, offset, definitions, ended) {
    if ((offset === this.#slowOffset && this.#slowMs > MAX_SLOW_MS) || NESTED.test(text)) return [verbatim(text)];
    const started = performance.now();
    try {
      return createLexer(definitions, ended).blockTokens(text);
    } catch {
      return [verbatim(text)]; // the nesting exceeds the stack
    } finally {
      this.#recordDuration(offset, performance.now() - started);
    }
  }

  /** @param {number} offset @param {number} duration in milliseconds */
  #recordDuration(offset, duration) {
    if (duration > SLOW_READ_MS) {
      this.#slowMs = offset === this.#slowOffset ? this.#slowMs + duration : duration;
      this.#slowOffset = offset;
    } else if (offset === this.#slowOffset) this.#slowMs = 0;
  }
}

/**
 * Return the number and total length of the blocks that later text cannot change: all but the last one, provided that
 * the last one is long enough not to become part of the one before it.
 * @param {Token[]} tokens
 * @param {string} text
 */
function settledBlocks(tokens, text) {
  const count = tokens.findLastIndex(isShown);
  const length = tokens.slice(0, Math.max(0, count)).reduce((sum, { raw }) => sum + raw.length, 0);
  const none = { count: 0, length: 0 };
  if (count <= 0 || !text.startsWith(tokens[count].raw, length)) return none;
  const lines = text.slice(length).split("\n", 3).length - 1;
  return lines < (tokens[count].type === "table" ? 2 : 1) ? none : { count, length };
}

/**
 * Convert the inline content of a block to HTML, which is not sanitized yet. Text that takes too long to read is escaped.
 * @param {string} text
 * @param {Definitions} definitions
 */
export function inlineHtml(text, definitions) {
  try {
    return new Parser(marked.defaults).parseInline(inlineTokens(text, definitions));
  } catch {
    return escapeHtml(text);
  }
}

/**
 * Read the inline content of a block. Text that takes too long to read becomes one token.
 * @param {string} text
 * @param {Definitions} definitions
 * @returns {Token[]}
 */
export function inlineTokens(text, definitions) {
  const plain = [{ type: "escape", raw: text, text }];
  if (!isProse(text)) return plain;
  try {
    return createLexer(definitions, true).inlineTokens(text);
  } catch {
    return plain; // the nesting exceeds the stack
  }
}

/**
 * Whether a text can be read in time.
 * @param {string} text
 */
function isProse(text) {
  if ((text.match(/[*_`~[\]<$\\@]/g)?.length ?? 0) > MAX_MARKS) return false;
  return !LONG_WORD.test(text.replace(/!\[[^[\]\n]{0,200}\]\(data:image\/[a-z]+;base64,[a-z0-9+/=]*\)/gi, ""));
}
