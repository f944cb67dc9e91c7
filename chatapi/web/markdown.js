// Markdown that is still being written, as DOM nodes.
//
// Blocks are nodes that we make ourselves, of fixed names and attributes; the text within one becomes HTML, and every
// piece of HTML goes through DOMPurify before it is anything. A block whose source has not changed keeps its nodes, in a
// list down to the item and in a table down to the cell, so that a selection, a focus and the reader's place stay.

import { highlight } from "./highlighting.js";
import { mathIn, mathTokens, renderMath } from "./math.js";
import { strings } from "./strings.js";
import { Lexer, Marked, Parser } from "./vendor/marked.js";
import DOMPurify from "./vendor/purify.js";

const UNDECIDED = /^[ \t>]*(?:[-=+*#]{1,6}|\d{1,9}[.)])[ \t]*$/;

/** @typedef {import("./vendor/marked.js").Token} Token */
/** @typedef {import("./vendor/marked.js").Links} Links */

/**
 * A block that is shown.
 * @typedef {object} Block
 * @property {string} kind
 * @property {string} raw its source
 * @property {boolean} open is more of it to come?
 * @property {HTMLElement} node
 * @property {Block[]} blocks those inside
 * @property {string | null} text what its inline content is made from
 * @property {string} html its inline content
 * @property {number} defined how many link definitions were known then
 */

const FRAME_MS = 16; // text that comes faster than the screen shows it is shown together
const SHARE = 3; // rendering takes at most one part of so many of the time, however slow the machine
const MAX_BLOCK = 100_000; // characters: a longer paragraph, list or table, by accident or ill will, is shown as it is
const MAX_DEPTH = 24; // of blocks in blocks
const MAX_MARKS = 1500; // in a paragraph: what could begin emphasis, code, a link; beyond that it is no prose
const LONG_WORD = /[\w.!#$%&'*+/=?^`{|}~-]{2000}/; // each letter of it could begin an address of mail
const NESTED = /^(?:[ \t]*(?:>|[-*+][ \t]|\d{1,9}[.)][ \t])){100}/m; // quotations and lists within each other on one line
const WINDOW = 16_384; // characters that are read together, where the blocks in them are not longer
const MAX_READ_MS = 200; // reading that takes longer is not tried again: what is left is shown as it is
const COPIED_MS = 2000; // how long a button tells that it has copied
const LINK = /^(?:https?:\/\/|mailto:)/i;
const PICTURE = /^data:image\/(?:png|jpeg|gif|webp);base64,[a-z0-9+/=]+$/i;

// HTML that a model may write for what Markdown cannot say. Any other tag is shown as the text that it is.
const TAGS = [
  "a", "abbr", "b", "bdi", "bdo", "br", "cite", "code", "dd", "del", "dfn", "div", "dl", "dt", "em", "i", "img", "ins",
  "kbd", "li", "mark", "ol", "p", "q", "rp", "rt", "ruby", "s", "samp", "small", "span", "strong", "sub", "sup", "table",
  "tbody", "td", "tfoot", "th", "thead", "tr", "u", "ul", "var", "wbr",
]; // prettier-ignore
const VOID = new Set(["br", "img", "wbr"]);
const PLAIN_ATTRIBUTES = ["alt", "colspan", "data-math", "dir", "rowspan", "start", "title"];
const ATTRIBUTES = [...PLAIN_ATTRIBUTES, "href", "src"];
const ALLOWED = {
  ALLOWED_TAGS: TAGS,
  ALLOWED_ATTR: ATTRIBUTES,
  ADD_URI_SAFE_ATTR: PLAIN_ATTRIBUTES,
  ALLOWED_URI_REGEXP: LINK,
  ALLOW_ARIA_ATTR: false,
  ALLOW_DATA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

const purify = DOMPurify(window);
purify.setConfig(ALLOWED);
purify.addHook("afterSanitizeAttributes", secure);

const marked = new Marked({ gfm: true, extensions: mathTokens });
marked.use({
  renderer: {
    html: ({ text }) => (isKnown([...tagsIn(text)]) ? bare(text) : escaped(text)),
    link({ href, title, tokens, autolink, text }) {
      const shown = autolink ? escaped(text) : this.parser.parseInline(tokens);
      return `<a href="${escaped(href)}"${title ? ` title="${escaped(title)}"` : ""}>${shown}</a>`;
    },
    image: ({ href, text }) => `<img src="${escaped(href)}" alt="${escaped(text || href.slice(0, 100))}">`,
  },
});

/** The nodes of mathematics that have been rendered, and what they say. @type {WeakMap<Node, string>} */
const rendered = new WeakMap();

/** Shows a text as Markdown inside an element, and goes on as the text grows. */
export class StreamingMarkdown {
  /** @param {HTMLElement} element */
  constructor(element) {
    this.element = element;
    this.text = "";
    this.ended = false;
    /** What is shown. @type {Block[]} */
    this.blocks = [];
    /** How many of the blocks are finished, and how much of the text they are. */
    this.finished = 0;
    this.offset = 0;
    /** Definitions of links, which may come after their use: in finished blocks, and in all. @type {Links} */
    this.finishedLinks = Object.create(null);
    /** @type {Links} */
    this.links = Object.create(null);
    /** How often those have changed, and what they are. */
    this.defined = 0;
    this.definitions = "{}";
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
    this.restUntil = 0;
    /** Where what took too long to read begins. */
    this.heavy = -1;
    element.addEventListener("click", copy);
  }

  /**
   * Show `text`. Text that comes quickly is shown a frame later; its end at once.
   * @param {string} text
   * @param {boolean} ended is it whole?
   */
  set(text, ended) {
    const lines = text.includes("\r") ? text.replace(/\r\n?/g, "\n") : text;
    const plain = ended ? lines : decided(lines);
    if (plain === this.text && ended === this.ended) return;
    if (!plain.startsWith(this.text.slice(0, this.offset))) this.restart();
    this.text = plain;
    this.ended = ended;
    const wait = this.restUntil - performance.now();
    if (ended || wait <= 0) this.show();
    else this.timer ??= setTimeout(() => this.show(), wait);
  }

  /** Look at the whole text again. Blocks that come out the same keep their nodes. */
  restart() {
    this.finished = 0;
    this.offset = 0;
    this.finishedLinks = Object.create(null);
  }

  show() {
    clearTimeout(this.timer);
    this.timer = undefined;
    const begun = performance.now();
    // What comes later can, rarely, change how an earlier block is to be read. So the end is read as a whole.
    if (this.ended) this.restart();
    const { tokens, finished, offset } = this.read();
    const definitions = JSON.stringify(this.links);
    if (definitions !== this.definitions) {
      this.definitions = definitions;
      this.defined += 1;
      this.relink(this.blocks.slice(0, this.finished));
    }
    const fresh = this.blocks.splice(this.finished);
    this.reconcile(this.element, fresh, tokens, !this.ended, 0);
    this.blocks.push(...fresh);
    if (!this.ended) {
      this.finished += tokens.slice(0, finished).filter(isShown).length;
      this.offset = offset;
    }
    const cost = performance.now() - begun;
    this.restUntil = begun + cost + Math.max(FRAME_MS - cost, cost * (SHARE - 1));
  }

  /**
   * The blocks of the text after those that are finished, how many of them nothing that follows can change, and where
   * the first that it can change begins. A long text is read piece by piece, which costs less than as a whole.
   */
  read() {
    this.links = Object.assign(Object.create(null), this.finishedLinks);
    /** @type {Token[]} */
    const tokens = [];
    let offset = this.offset;
    for (let size = WINDOW; ; ) {
      const isLast = this.text.length - offset <= size;
      const text = this.text.slice(offset, isLast ? undefined : offset + size);
      const part = this.readPart(text, offset, this.ended && isLast);
      const settled = settledIn(part, text);
      if (settled.count > 0) size = WINDOW;
      else size *= 2;
      if (isLast) {
        const finished = tokens.length + settled.count;
        this.keepLinks(offset + settled.length);
        return { tokens: [...tokens, ...part], finished, offset: offset + settled.length };
      }
      tokens.push(...part.slice(0, settled.count));
      offset += settled.length;
    }
  }

  /**
   * Keep the definitions in the blocks that are finished now. One at the end of the text may still be growing.
   * @param {number} offset where they end
   */
  keepLinks(offset) {
    const text = this.text.slice(this.offset, offset);
    if (!text.includes("]:") || this.ended) return;
    const links = this.links;
    this.links = this.finishedLinks;
    this.readPart(text, this.offset, false);
    this.links = links;
  }

  /**
   * @param {string} text
   * @param {number} offset where it stands
   * @param {boolean} ended
   * @returns {Token[]}
   */
  readPart(text, offset, ended) {
    if (offset === this.heavy || NESTED.test(text)) return [asItIs(text)];
    const begun = performance.now();
    try {
      return this.lexer(ended).blockTokens(text);
    } catch {
      return [asItIs(text)]; // nested so deeply that no stack holds it
    } finally {
      if (performance.now() - begun > MAX_READ_MS) this.heavy = offset;
    }
  }

  lexer(ended = true) {
    const lexer = new Lexer(marked.defaults);
    lexer.tokens.links = this.links;
    lexer.ended = ended;
    return lexer;
  }

  /**
   * Let `blocks` be those of `tokens`, in a parent that shows nothing else after them.
   * @param {HTMLElement} parent
   * @param {Block[]} blocks
   * @param {Token[]} tokens
   * @param {boolean} open is more to come after the last one?
   * @param {number} depth
   */
  reconcile(parent, blocks, tokens, open, depth) {
    const shown = tokens.filter(isShown);
    shown.forEach((token, index) => {
      const isOpen = open && index === shown.length - 1;
      const before = blocks[index];
      const block = this.block(before, bounded(token, depth), isOpen, depth);
      if (block === before) return;
      blocks[index] = block;
      if (before) before.node.replaceWith(block.node);
      else parent.append(block.node);
    });
    for (const { node } of blocks.splice(shown.length)) node.remove();
  }

  /**
   * The block of a token: the one that was there where it can go on, or a new one.
   * @param {Block | undefined} before
   * @param {Token} token
   * @param {boolean} open
   * @param {number} depth
   * @returns {Block}
   */
  block(before, token, open, depth) {
    const kind = kindOf(token);
    if (before?.kind === kind) {
      const same = before.raw === token.raw && before.open === open && !this.mayRelink(before);
      if (!same) this.update(before, token, open, depth);
      return before;
    }
    const node = make(kind, token);
    /** @type {Block} */
    const block = { kind, raw: "", open, node, blocks: [], text: null, html: "", defined: this.defined };
    this.update(block, token, open, depth);
    // Which way it runs is told by its first letter; by now there is one, and the browser need not look for it anew with
    // every node that comes. What is inside runs the same way.
    if (depth === 0 && node.dir === "" && kind !== "hr") node.dir = "auto";
    return block;
  }

  /**
   * @param {Block} block
   * @param {Token} token
   * @param {boolean} open
   * @param {number} depth
   */
  update(block, token, open, depth) {
    block.raw = token.raw;
    block.open = open;
    block.defined = this.defined;
    switch (token.type) {
      case "hr":
        return;
      case "code":
        return updateCode(block.node, token.text, open);
      case "html":
        return this.fill(block, bare(token.text));
      case "math":
        return this.fill(block, mathIn(token));
      case "plain":
        block.node.textContent = token.text;
        return;
      case "blockquote":
        return this.reconcile(block.node, block.blocks, token.tokens ?? [], open, depth + 1);
      case "list":
        block.node.className = token.loose ? "loose" : "tight";
        return this.reconcile(block.node, block.blocks, token.items, open, depth + 1);
      case "list_item":
        return this.reconcile(block.node, block.blocks, inItem(token), open, depth + 1);
      case "table":
        return this.updateTable(block, token, open);
      default:
        block.text = token.text;
        return this.write(block);
    }
  }

  /**
   * @param {Block} block
   * @param {Token} token
   * @param {boolean} open
   */
  updateTable(block, token, open) {
    const table = /** @type {HTMLTableElement} */ (block.node.firstElementChild);
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

  /**
   * Write a block's inline content.
   * @param {Block} block
   */
  write(block) {
    const text = block.open ? mended(block.text ?? "") : (block.text ?? "");
    let html;
    try {
      if (!isProse(text)) throw new RangeError("It is no prose.");
      const tokens = this.lexer().inlineTokens(text);
      html = new Parser(marked.defaults).parseInline(tokens);
    } catch {
      html = escaped(text);
    }
    this.fill(block, html);
  }

  /**
   * @param {Block} block
   * @param {string} html
   */
  fill(block, html) {
    if (block.html === html) return;
    block.html = html;
    const element = block.node;
    if (!/[<&\r\0]/.test(html)) {
      morph(element, document.createTextNode(html)); // most list items and cells are no more than text
      return;
    }
    const clean = /** @type {DocumentFragment} */ (purify.sanitize(html));
    /** @type {HTMLElement[]} */
    const formulas = [...clean.querySelectorAll("[data-math]")].map((node) => formula(/** @type {Element} */ (node)));
    morph(element, clean);
    for (const node of formulas) if (element.contains(node)) renderMath(node);
  }

  /**
   * Could a definition that has come since make a link of what is in it?
   * @param {Block} block
   */
  mayRelink(block) {
    return this.defined !== block.defined && block.raw.includes("[");
  }

  /** @param {Block[]} blocks */
  relink(blocks) {
    for (const block of blocks) {
      if (block.text !== null && this.mayRelink(block)) this.write(block);
      block.defined = this.defined;
      this.relink(block.blocks);
    }
  }
}

/** @param {Token} token */
function isShown(token) {
  return token.type !== "space" && token.type !== "def" && token.type !== "checkbox";
}

/**
 * How many of a text's blocks nothing that follows can change, and how long they are: all before the last one, once so
 * much of that one is there that it cannot turn out to be part of the one before.
 * @param {Token[]} tokens
 * @param {string} text
 */
function settledIn(tokens, text) {
  const count = tokens.findLastIndex(isShown);
  const length = tokens.slice(0, Math.max(0, count)).reduce((sum, { raw }) => sum + raw.length, 0);
  const none = { count: 0, length: 0 };
  if (count <= 0 || !text.startsWith(tokens[count].raw, length)) return none;
  const lines = text.slice(length).split("\n", 3).length - 1;
  return lines < (tokens[count].type === "table" ? 2 : 1) ? none : { count, length };
}

/**
 * Is it something that somebody may have written to be read, and that can be read in time?
 * @param {string} text
 */
function isProse(text) {
  if ((text.match(/[*_`~[\]<$\\@]/g)?.length ?? 0) > MAX_MARKS) return false;
  return !LONG_WORD.test(text.replace(/!\[[^[\]\n]{0,200}\]\(data:image\/[a-z]+;base64,[a-z0-9+/=]*\)/gi, ""));
}

/** @param {string} text @returns {Token} */
function asItIs(text) {
  return { type: "plain", raw: text, text };
}

/**
 * The token, or its source as it is where it is too much to be read as anything.
 * @param {Token} token
 * @param {number} depth
 */
function bounded(token, depth) {
  const isTooLong = token.raw.length > MAX_BLOCK && token.type !== "code";
  const isNoHtml = token.type === "html" && !isBalanced(token.text);
  return isTooLong || isNoHtml || depth >= MAX_DEPTH ? asItIs(token.raw) : token;
}

/**
 * What must be the same for a block to go on as this token.
 * @param {Token} token
 */
function kindOf(token) {
  switch (token.type) {
    case "heading":
      return `h${Math.min(6, token.depth + 2)}`; // the page itself has the two above
    case "list":
      return token.ordered ? `ol ${token.start}` : "ul";
    case "code":
      return `code ${languageOf(token)}`;
    case "table":
      return `table ${token.align}`;
    case "td":
    case "th":
      return `${token.type} ${token.align}`;
    case "text":
    case "paragraph":
      return "p";
    default:
      return token.type;
  }
}

/** @param {Token} token */
function languageOf(token) {
  return (token.lang ?? "").trim().split(/\s/, 1)[0].slice(0, 40);
}

/**
 * @param {string} kind
 * @param {Token} token
 * @returns {HTMLElement}
 */
function make(kind, token) {
  const name = kind.split(" ", 1)[0];
  switch (name) {
    case "code":
      return codeBlock(languageOf(token));
    case "table":
      return tableIn();
    case "plain":
    case "math":
    case "html": {
      const block = element("div", `${name}-block`);
      if (name === "math") block.dir = "ltr";
      return block;
    }
    case "list_item":
      return element("li");
    case "td":
    case "th": {
      const cell = element(name);
      if (token.align) cell.classList.add(token.align);
      if (name === "th") cell.setAttribute("scope", "col");
      return cell;
    }
    case "ol": {
      const list = /** @type {HTMLOListElement} */ (element("ol"));
      if (token.start !== 1) list.start = token.start;
      return list;
    }
    default:
      return element(name);
  }
}

/** @param {string} name @param {string} [className] */
function element(name, className) {
  const made = document.createElement(name);
  if (className) made.className = className;
  return made;
}

function tableIn() {
  const box = element("div", "table-scroll");
  box.tabIndex = 0; // so that who has no mouse can scroll it
  box.append(element("table"));
  return box;
}

/**
 * A list item's blocks: its box, where it is a task, becomes a character before its text.
 * @param {Token} item
 * @returns {Token[]}
 */
function inItem(item) {
  const tokens = (item.tokens ?? []).filter(isShown);
  if (!item.task || tokens.length === 0) return tokens;
  const [first, ...others] = tokens;
  const text = `${item.checked ? "☑" : "☐"} ${first.text.replace(/^\[[ xX]\]\s*/, "")}`;
  return [{ ...first, text }, ...others];
}

// Code

/** @param {string} language */
function codeBlock(language) {
  const block = element("div", "code-block");
  block.dir = "ltr";
  const head = element("div", "code-head");
  const name = element("span", "language");
  name.textContent = language;
  const button = /** @type {HTMLButtonElement} */ (element("button", "copy"));
  button.type = "button";
  button.textContent = strings.copy;
  head.append(name, button);
  const box = element("pre");
  box.tabIndex = 0;
  const code = element("code");
  code.append("");
  box.append(code);
  block.append(head, box);
  return block;
}

/**
 * @param {HTMLElement} block
 * @param {string} text
 * @param {boolean} open
 */
function updateCode(block, text, open) {
  const code = /** @type {HTMLElement} */ (block.querySelector("code"));
  // The beginning of what may be the fence that ends the block is not shown as code for a moment.
  const shown = open ? text.replace(/(?:^|\n) {0,3}(?:`{1,}|~{1,})$/, "") : text;
  const before = code.textContent ?? "";
  if (shown !== before) {
    const only = code.firstChild;
    if (only instanceof Text && code.childNodes.length === 1 && shown.startsWith(before)) {
      only.appendData(shown.slice(before.length));
    } else {
      code.textContent = shown;
    }
  }
  if (!open) highlight(code, block.querySelector(".language")?.textContent ?? "");
}

/**
 * Copy the code of the button that was pressed.
 * @param {Event} event
 */
async function copy(event) {
  const button = event.target instanceof Element ? event.target.closest("button.copy") : null;
  const code = button?.closest(".code-block")?.querySelector("code");
  if (!button || !code) return;
  try {
    await navigator.clipboard.writeText(code.textContent ?? "");
  } catch {
    if (!copySelected(code)) return; // a page without TLS has no clipboard of its own
  }
  button.textContent = strings.copied;
  setTimeout(() => {
    button.textContent = strings.copy;
  }, COPIED_MS);
}

/** @param {Element} code */
function copySelected(code) {
  const selection = getSelection();
  if (selection === null) return false;
  selection.selectAllChildren(code);
  const done = document.execCommand("copy");
  selection.removeAllRanges();
  return done;
}

// HTML

/** @param {string} text */
function escaped(text) {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/**
 * The tags in a piece of HTML; "" for what starts like one and has no name, as a comment does.
 * @param {string} html
 */
function* tagsIn(html) {
  for (const [, slash, name] of html.matchAll(/<(\/?)([a-z][^\s/>]*|[!?])/gi)) {
    yield { ends: slash === "/", name: name.toLowerCase() };
  }
}

/** @param {{name: string}[]} tags */
function isKnown(tags) {
  return tags.every(({ name }) => TAGS.includes(name));
}

/**
 * Is it HTML that stands by itself: known tags, each of which ends?
 * @param {string} html
 */
function isBalanced(html) {
  const tags = [...tagsIn(html)];
  const left = new Map();
  for (const { ends, name } of tags) if (!VOID.has(name)) left.set(name, (left.get(name) ?? 0) + (ends ? -1 : 1));
  return isKnown(tags) && [...left.values()].every((count) => count === 0);
}

/**
 * HTML without the attributes that we do not know. DOMPurify would take them away too; but it has a browser read the HTML
 * first, which reports a handler or a style to whoever watches over the page's policy.
 * @param {string} html
 */
function bare(html) {
  // Each search ends soon: behind the last tag none begins, and a name begins where the one before it has ended.
  const end = html.lastIndexOf(">") + 1;
  const tags = html.slice(0, end).replace(/<([a-z][^\s/>]*)([^>]*)>/gi, (_, name, attributes) => {
    const kept = attributes.matchAll(/(?<![a-z-])([a-z-]+)\s*=\s*("[^"]*"|'[^']*'|[^\s"'=<>`]+)/gi);
    const known = [...kept].filter(([, attribute]) => ATTRIBUTES.includes(attribute.toLowerCase()));
    return `<${name}${known.map(([attribute]) => ` ${attribute}`).join("")}>`;
  });
  return tags + html.slice(end);
}

/**
 * What DOMPurify is asked to see to beside: where links lead and how, and that no picture comes from elsewhere.
 * @param {Element} node
 */
function secure(node) {
  const name = node.localName;
  const href = node.getAttribute("href");
  const source = node.getAttribute("src");
  if (name === "a" && href !== null && isLink(href)) leadOutside(node);
  else node.removeAttribute("href");
  if (name !== "img") node.removeAttribute("src");
  else if (source === null || !PICTURE.test(source)) {
    const link = node.ownerDocument.createElement(node.closest("a") ? "span" : "a");
    link.textContent = node.getAttribute("alt") || source || "";
    if (link.localName === "a" && source !== null && isLink(source)) {
      link.setAttribute("href", source);
      leadOutside(link);
    }
    node.replaceWith(link);
  }
}

/** @param {Element} link */
function leadOutside(link) {
  link.setAttribute("target", "_blank");
  link.setAttribute("rel", "noopener noreferrer nofollow");
}

/** @param {string} href */
function isLink(href) {
  return LINK.test(href) && URL.canParse(href) && ["http:", "https:", "mailto:"].includes(new URL(href).protocol);
}

/**
 * The place of a formula, made of what the HTML says.
 * @param {Element} source
 */
function formula(source) {
  const place = element("span", source.getAttribute("data-math") === "display" ? "math display" : "math");
  place.dir = "ltr";
  place.textContent = source.textContent;
  rendered.set(place, `${place.className}:${place.textContent}`);
  source.replaceWith(place);
  return place;
}

/**
 * Let `old` have the children of `fresh`, and keep every node that need not change.
 * @param {Node} old
 * @param {Node} fresh
 */
function morph(old, fresh) {
  let here = old.firstChild;
  let next = fresh instanceof Text ? fresh : fresh.firstChild;
  while (next !== null) {
    const following = next.nextSibling;
    if (here === null) old.appendChild(next);
    else {
      const after = here.nextSibling;
      if (!keeps(here, next)) old.replaceChild(next, here);
      here = after;
    }
    next = following;
  }
  while (here !== null) {
    const after = here.nextSibling;
    here.remove();
    here = after;
  }
}

/**
 * Can the node that is there become the fresh one? Then it has.
 * @param {ChildNode} here
 * @param {ChildNode} fresh
 */
function keeps(here, fresh) {
  const formulas = [rendered.get(here), rendered.get(fresh)];
  if (formulas[0] !== undefined || formulas[1] !== undefined) return formulas[0] === formulas[1];
  if (here instanceof Text && fresh instanceof Text) {
    if (fresh.data.startsWith(here.data)) here.appendData(fresh.data.slice(here.data.length));
    else here.data = fresh.data;
    return true;
  }
  if (!(here instanceof Element) || !(fresh instanceof Element) || here.nodeName !== fresh.nodeName) return false;
  for (const { name } of [...here.attributes]) if (!fresh.hasAttribute(name)) here.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (here.getAttribute(name) !== value) here.setAttribute(name, value);
  morph(here, fresh);
  return true;
}

/**
 * Text whose end is still to come, so that what is emphasised, code or a link looks at once as it will in the end.
 * @param {string} text
 */
function mended(text) {
  const target = text.lastIndexOf("](");
  if (target >= 0 && !/[)\s]/.test(text.slice(target + 2))) {
    const label = text.lastIndexOf("[", target);
    const start = text[label - 1] === "!" ? label - 1 : label;
    if (label >= 0) return text.slice(0, start) + text.slice(label + 1, target);
  }
  if (isOdd(text, /(?<!`)`(?!`)/g)) return `${text}\``;
  const bare = text.replace(/(^|\s)[*_~]{1,3}$/, "$1"); // it has not begun to emphasise anything
  if (bare !== text || /\s$/.test(text)) return bare;
  const prose = text.replace(/`[^`]*`/g, "");
  return ["**", "~~"].reduce((so, mark) => (isOdd(prose, mark) ? so.replace(/[*~]$/, "") + mark : so), text);
}

/**
 * Text without a last line that may yet become a list, a heading or a rule, and looks like another of them until then.
 * @param {string} text
 */
function decided(text) {
  const line = text.lastIndexOf("\n") + 1;
  return text.length - line < 20 && UNDECIDED.test(text.slice(line)) ? text.slice(0, line) : text;
}

/** @param {string} text @param {string | RegExp} mark */
function isOdd(text, mark) {
  return text.split(mark).length % 2 === 0;
}
