// The highlighting worker: receives a text and its language, and returns pieces of text with their classes.

import hljs from "../vendor/highlight.js";

/** An emitter that collects pieces; highlight.js's own writes HTML. */
class Pieces {
  constructor() {
    /** @type {[string, string][]} */
    this.pieces = [];
    /** @type {string[]} */
    this.scopes = [];
  }

  /** @param {string} text */
  addText(text) {
    if (text === "") return;
    const scopes = this.scopes.at(-1) ?? "";
    const last = this.pieces.at(-1);
    if (last?.[1] === scopes) last[0] += text;
    else this.pieces.push([text, scopes]);
  }

  /** @param {string} scope */
  startScope(scope) {
    this.openNode(scope);
  }

  endScope() {
    this.closeNode();
  }

  /** @param {string} scope */
  openNode(scope) {
    const [first, ...others] = scope.split(".");
    const own = [`hljs-${first}`, ...others.map((name, index) => name + "_".repeat(index + 1))].join(" ");
    this.scopes.push(own);
  }

  closeNode() {
    this.scopes.pop();
  }

  /** @param {Pieces} inner */
  __addSublanguage(inner) {
    this.pieces.push(...inner.pieces);
  }

  finalize() {}

  toHTML() {
    return "";
  }
}

hljs.configure({ __emitter: Pieces });

onmessage = ({ data: { text, language } }) => {
  if (!hljs.getLanguage(language)) {
    postMessage(null);
    return;
  }
  const { _emitter } = hljs.highlight(text, { language, ignoreIllegals: true });
  const pieces = /** @type {Pieces} */ (_emitter).pieces;
  // A fault in the emitter may cost the colours, never text.
  postMessage(pieces.map(([piece]) => piece).join("") === text ? pieces : null);
};
