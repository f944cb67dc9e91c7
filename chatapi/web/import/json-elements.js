// Reads a file of exported chats one chat at a time, so that memory holds one of them, however large the file is.

const OBJECT_START = 123; // {
const OBJECT_END = 125; // }
const ARRAY_START = 91; // [
const ARRAY_END = 93; // ]
const QUOTE = 34;
const BACKSLASH = 92;
const COMMA = 44;
const SPACE = 32; // and all characters below it
const HEAD_CHARACTERS = 2000; // of a chat that is too large, in which its title is looked for

/** The beginning of a file with all chats of this page. */
const OWN_SESSIONS = /^\s*\{\s*"format"\s*:\s*"chatapi\.sessions"\s*,\s*"version"\s*:\s*1\s*,\s*"sessions"\s*:\s*\[/;
const OWN_SESSIONS_CHARACTERS = 200; // in which it must be

/**
 * A chat of a file: its text, or "" if that is longer than allowed; and its beginning, which may have the title.
 * @typedef {{text: string, head: string}} Element
 */

/** The file is not JSON, or ends too early. */
export class FileError extends Error {}

/**
 * Yield the elements of the array that a file consists of, or the whole file if it is an object.
 * @param {ReadableStream<Uint8Array>} stream
 * @param {number} maxCharacters of an element
 * @param {(bytes: number) => void} onProgress called with the number of bytes read so far
 * @returns {AsyncGenerator<Element>}
 * @throws {FileError}
 */
export async function* readElements(stream, maxCharacters, onProgress) {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  const scanner = new Scanner(maxCharacters);
  const reader = stream.getReader();
  let bytes = 0;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      const text = decode(decoder, value, done);
      yield* scanner.push(text);
      if (done) break;
      bytes += value.length;
      onProgress(bytes);
    }
    yield* scanner.end();
  } finally {
    await reader.cancel().catch(() => {}); // the reader of this generator may have stopped early
  }
}

/** @param {TextDecoder} decoder @param {Uint8Array | undefined} bytes @param {boolean} done */
function decode(decoder, bytes, done) {
  try {
    return decoder.decode(bytes, { stream: !done });
  } catch {
    throw new FileError();
  }
}

class Scanner {
  #maxCharacters;
  /** "start" until the kind of the file is known. @type {"start" | "array" | "object" | "end"} */
  #place = /** @type {"start" | "array" | "object" | "end"} */ ("start");
  #start = "";
  #depth = 0; // of objects and arrays within the element
  #inString = false;
  #isEscaped = false;
  /** @type {string[]} */
  #parts = [];
  #characters = 0;
  #head = "";

  /** @param {number} maxCharacters */
  constructor(maxCharacters) {
    this.#maxCharacters = maxCharacters;
  }

  /** @param {string} text @returns {Generator<Element>} */
  *push(text) {
    if (this.#place === "start") {
      text = this.#start + text;
      const rest = this.#begin(text);
      if (rest === null) {
        this.#start = text;
        return;
      }
      text = rest;
    }
    if (this.#place === "array") yield* this.#scan(text);
    else if (this.#place === "object") this.#add(text);
  }

  /** @returns {Generator<Element>} */
  *end() {
    if (this.#place === "start") {
      const rest = this.#begin(this.#start + " ".repeat(OWN_SESSIONS_CHARACTERS));
      if (rest === null) throw new FileError();
      if (/** @type {string} */ (this.#place) === "array") yield* this.#scan(rest);
      else this.#add(rest);
    }
    if (this.#place === "array") throw new FileError(); // it was cut off
    if (this.#place === "object") yield* this.#take();
  }

  /** Find out the kind of a file; return the text to scan, or null if more is needed. @param {string} text */
  #begin(text) {
    const first = text.trimStart().charCodeAt(0);
    if (Number.isNaN(first)) return null;
    if (first === ARRAY_START) {
      this.#place = "array";
      return text.slice(text.indexOf("[") + 1);
    }
    if (first !== OBJECT_START) throw new FileError();
    if (text.length < OWN_SESSIONS_CHARACTERS) return null;
    const own = OWN_SESSIONS.exec(text);
    this.#place = own === null ? "object" : "array";
    return own === null ? text : text.slice(own[0].length);
  }

  /** @param {string} text @returns {Generator<Element>} */
  *#scan(text) {
    let from = 0;
    for (let at = 0; at < text.length; at += 1) {
      const code = text.charCodeAt(at);
      if (this.#inString) {
        if (this.#isEscaped) this.#isEscaped = false;
        else if (code === BACKSLASH) this.#isEscaped = true;
        else if (code === QUOTE) this.#inString = false;
      } else if (code === QUOTE) this.#inString = true;
      else if (code === OBJECT_START || code === ARRAY_START) this.#depth += 1;
      else if (this.#depth > 0) {
        if (code === OBJECT_END || code === ARRAY_END) this.#depth -= 1;
      } else if (code === COMMA || code === ARRAY_END) {
        this.#add(text.slice(from, at));
        from = at + 1;
        yield* this.#take();
        if (code === ARRAY_END) {
          this.#place = "end"; // anything after it is ignored
          return;
        }
      } else if (code <= SPACE && this.#characters === 0 && from === at) from = at + 1;
    }
    this.#add(text.slice(from));
  }

  /** @param {string} text of the current element */
  #add(text) {
    this.#characters += text.length;
    if (this.#head.length < HEAD_CHARACTERS) this.#head += text.slice(0, HEAD_CHARACTERS - this.#head.length);
    if (this.#characters <= this.#maxCharacters) this.#parts.push(text);
    else this.#parts = [];
  }

  /** @returns {Generator<Element>} */
  *#take() {
    const isLarge = this.#characters > this.#maxCharacters;
    const element = { text: isLarge ? "" : this.#parts.join(""), head: this.#head };
    const isEmpty = !isLarge && element.text.trim() === "";
    this.#parts = [];
    this.#characters = 0;
    this.#head = "";
    if (!isEmpty) yield element;
  }
}
