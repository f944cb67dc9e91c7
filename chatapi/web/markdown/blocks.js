// Reconciles the blocks that are shown with those that were read.
import { strings } from "../strings.js";
import { updateCode } from "./code-block.js";
import { completeMarkup } from "./complete.js";
import { mathHtml, renderMath } from "./math.js";
import { morph } from "./morph.js";
import { createNode, isShown, itemContent, kindOf, quoteContent, verbatim } from "./nodes.js";
import { createDefinitions, inlineHtml } from "./reader.js";
import { isBalanced, sanitize, stripUnknownAttributes } from "./sanitize.js";

const MAX_BLOCK_CHARACTERS = 100_000; // a longer paragraph, list or table is shown verbatim
const MAX_DEPTH = 24; // of blocks in blocks

/** @typedef {import("../vendor/marked.js").Token} Token */
/** @typedef {import("./reader.js").Definitions} Definitions */

/**
 * A block that is shown.
 * @typedef {object} Block
 * @property {string} kind
 * @property {string} raw its source
 * @property {boolean} open whether more of it may follow
 * @property {HTMLElement} node
 * @property {Block[]} blocks its children
 * @property {string | null} text the source of its inline content
 * @property {string} html its inline content
 * @property {number} definitionsVersion the definitions that were known when it was rendered
 */

export class BlockRenderer {
  #definitions = createDefinitions();
  #definitionsJson = "";
  #definitionsVersion = 0;

  /**
   * Set the definitions. Returns whether they have changed.
   * @param {Definitions} definitions
   */
  setDefinitions(definitions) {
    this.#definitions = definitions;
    const json = JSON.stringify(definitions);
    if (json === this.#definitionsJson) return false;
    this.#definitionsJson = json;
    this.#definitionsVersion += 1;
    return true;
  }

  /**
   * Make `blocks` show `tokens`, as the only children of their parent from their position on.
   * @param {HTMLElement} parent
   * @param {Block[]} blocks changed in place
   * @param {Token[]} tokens
   * @param {boolean} open whether more may follow the last one
   * @param {number} depth
   */
  reconcile(parent, blocks, tokens, open, depth) {
    const end = this.reconcileFrom(0, () => parent, blocks, tokens, open, depth);
    for (const { node } of blocks.splice(end)) node.remove();
  }

  /**
   * Do the same for the blocks from a position on, and leave those after `tokens`. Returns the position after them.
   * @param {number} start
   * @param {(index: number) => HTMLElement} parentOf the block at an index
   * @param {Block[]} blocks changed in place
   * @param {Token[]} tokens
   * @param {boolean} open
   * @param {number} depth
   */
  reconcileFrom(start, parentOf, blocks, tokens, open, depth) {
    const shown = tokens.filter(isShown);
    shown.forEach((token, at) => {
      const index = start + at;
      const isOpen = open && at === shown.length - 1;
      const previous = blocks[index];
      const block = this.#reuseOrCreate(previous, withinLimits(token, depth), isOpen, depth);
      if (block === previous) return;
      blocks[index] = block;
      if (previous) previous.node.replaceWith(block.node);
      else parentOf(index).append(block.node);
    });
    return start + shown.length;
  }

  /**
   * @param {Block | undefined} previous
   * @param {Token} token
   * @param {boolean} open
   * @param {number} depth
   * @returns {Block} the previous one if it has the same kind, or a new one
   */
  #reuseOrCreate(previous, token, open, depth) {
    const kind = kindOf(token);
    if (previous?.kind === kind) {
      const isSame = previous.raw === token.raw && previous.open === open && !this.#mayRelink(previous);
      if (!isSame) this.#update(previous, token, open, depth);
      return previous;
    }
    const node = createNode(kind, token);
    /** @type {Block} */
    const block = { kind, raw: "", open, node, blocks: [], text: null, html: "", definitionsVersion: this.#definitionsVersion };
    this.#update(block, token, open, depth);
    // The first letter decides the direction. Setting it on the outermost block, once it has text, spares the browser
    // from evaluating it for each nested node.
    if (depth === 0 && node.dir === "" && kind !== "hr") node.dir = "auto";
    return block;
  }

  /**
   * @param {Block} block
   * @param {Token} token
   * @param {boolean} open
   * @param {number} depth
   */
  #update(block, token, open, depth) {
    block.raw = token.raw;
    block.open = open;
    block.definitionsVersion = this.#definitionsVersion;
    switch (token.type) {
      case "hr":
        return;
      case "code":
        return updateCode(block.node, token.text, open);
      case "html":
        return fill(block, stripUnknownAttributes(token.text));
      case "math":
        return fill(block, mathHtml(token));
      case "plain":
        block.node.textContent = token.text;
        return;
      case "blockquote":
        return this.reconcile(block.node, block.blocks, quoteContent(token), open, depth + 1);
      case "details":
        /** @type {HTMLElement} */ (block.node.firstElementChild).textContent = token.summary || strings.details;
        return this.reconcile(block.node, block.blocks, token.tokens ?? [], open, depth + 1);
      case "aligned":
        return this.reconcile(block.node, block.blocks, token.tokens ?? [], open, depth + 1);
      case "footnote":
        return this.reconcile(
          /** @type {HTMLElement} */ (block.node.lastElementChild), block.blocks, token.tokens ?? [], open, depth + 1,
        );
      case "list":
        block.node.className = token.loose ? "loose" : "tight";
        return this.reconcile(block.node, block.blocks, token.items, open, depth + 1);
      case "list_item":
        return this.reconcile(block.node, block.blocks, itemContent(token), open, depth + 1);
      case "table":
        return this.#updateTable(block, token, open);
      default:
        block.text = token.text;
        return this.#renderInline(block);
    }
  }

  /**
   * @param {Block} block
   * @param {Token} token
   * @param {boolean} open
   */
  #updateTable(block, token, open) {
    const table = /** @type {HTMLTableElement} */ (block.node.querySelector("table"));
    const rows = [token.header, ...token.rows];
    rows.forEach((cells, index) => {
      let row = block.blocks[index];
      if (row === undefined) {
        const node = document.createElement("tr");
        (index === 0 ? table.createTHead() : (table.tBodies[0] ?? table.createTBody())).append(node);
        row = { ...block, kind: "tr", node, blocks: [], raw: "", text: null };
        block.blocks[index] = row;
      }
      const isOpen = open && index === rows.length - 1;
      const tokens = cells.map((/** @type {Token} */ cell, /** @type {number} */ column) => ({
        type: index === 0 ? "th" : "td",
        raw: cell.text,
        text: cell.text,
        align: token.align[column],
      }));
      this.reconcile(row.node, row.blocks, tokens, isOpen, 1);
    });
    for (const { node } of block.blocks.splice(rows.length)) node.remove();
    if (table.tBodies[0]?.rows.length === 0) table.tBodies[0].remove();
  }

  /** @param {Block} block */
  #renderInline(block) {
    const text = block.text ?? "";
    fill(block, inlineHtml(block.open ? completeMarkup(text) : text, this.#definitions));
  }

  /** Whether a new definition may turn text of this block into a link or a reference. @param {Block} block */
  #mayRelink(block) {
    return this.#definitionsVersion !== block.definitionsVersion && block.raw.includes("[");
  }

  /** Render the blocks again that new definitions may change. @param {Block[]} blocks */
  relink(blocks) {
    for (const block of blocks) {
      if (block.text !== null && this.#mayRelink(block)) this.#renderInline(block);
      block.definitionsVersion = this.#definitionsVersion;
      this.relink(block.blocks);
    }
  }
}

/**
 * @param {Block} block
 * @param {string} html not sanitized
 */
function fill(block, html) {
  if (block.html === html) return;
  block.html = html;
  const { node } = block;
  if (!/[<&\r\0]/.test(html)) {
    morph(node, document.createTextNode(html)); // most list items and cells are plain text
    return;
  }
  const { content, formulas } = sanitize(html);
  morph(node, content);
  for (const formula of formulas) if (node.contains(formula)) renderMath(formula);
}

/**
 * Return the token, or its source verbatim if it is too long, too deep or invalid HTML.
 * @param {Token} token
 * @param {number} depth
 */
function withinLimits(token, depth) {
  const isTooLong = token.raw.length > MAX_BLOCK_CHARACTERS && token.type !== "code";
  const isInvalid = token.type === "html" && !isBalanced(token.text);
  return isTooLong || isInvalid || depth >= MAX_DEPTH ? verbatim(token.raw) : token;
}
