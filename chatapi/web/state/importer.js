// Imports the chats of a file one after the other: each completely or not at all.
import { ApiError, NetworkError, isRequestError } from "../api/client.js";
import { readAttachment } from "./attachments.js";
import { patiently } from "./bulk.js";
import { Observable } from "./observable.js";

/**
 * @typedef {import("../api/client.js").Api} Api
 * @typedef {import("../types.d.ts").Session} Session
 */

/** Why a chat was not imported: it cannot be read, it is too large, or the server has refused it. @typedef {"invalid" | "large" | ApiError} Reason */

const OVERHEAD = 4; // an export of another program may have so many times the characters of the document made from it
const MAX_FAILURES = 200; // that are listed
const SKIPPED = new Set([400, 413, 422]); // refusals that concern one chat

export class Importer extends Observable {
  file;
  /** The chats that were imported. */
  count = 0;
  /** The session of the last one. @type {Session | null} */
  last = null;
  /** @type {{name: string, reason: Reason}[]} */
  failures = [];
  failureCount = 0;
  /** The files and other contents that the imported chats had, and their sessions do not have. */
  leftOut = 0;
  /** How much of the file was read, 0 to 1. */
  progress = 0;
  /** Why it ended early: the file is no export or incomplete, or the server cannot be used. @type {"file" | Error | null} */
  error = null;
  isOver = false;

  #api;
  #maxBytes;
  #isCancelled = false;
  /** Of the chat that is being imported. */
  #number = 0;

  /**
   * @param {Api} api
   * @param {File} file
   * @param {number} maxBytes of the document of a session
   */
  constructor(api, file, maxBytes) {
    super();
    this.#api = api;
    this.file = file;
    this.#maxBytes = maxBytes;
  }

  /** Import all chats. Never throws: what failed is in `failures` and `error`. */
  async run() {
    try {
      await this.#read();
    } catch (error) {
      this.error = isRequestError(error) ? error : "file";
    }
    if (this.count === 0 && this.failureCount === 1 && this.failures[0].reason === "invalid") this.error ??= "file";
    this.isOver = true;
    this.changed();
  }

  /** Stop after the chat that is being imported. */
  cancel() {
    this.#isCancelled = true;
  }

  async #read() {
    const modules = await load();
    const archive = await modules.openArchive(this.file);
    let before = 0;
    for await (const stream of archive.chats()) {
      let read = 0;
      const onProgress = (/** @type {number} */ bytes) => {
        read = bytes;
        this.progress = archive.size === 0 ? 0 : (before + bytes) / archive.size;
        this.changed();
      };
      await this.#importChats(modules, archive, modules.readElements(stream, this.#maxBytes * OVERHEAD, onProgress));
      before += read;
      if (this.#isCancelled) return;
    }
  }

  /**
   * @param {Modules} modules
   * @param {import("../import/archive.js").Archive} archive
   * @param {AsyncGenerator<import("../import/json-elements.js").Element>} elements
   */
  async #importChats({ ChatError, attach, convert, titleIn }, archive, elements) {
    for await (const { text, head } of elements) {
      if (this.#isCancelled) return;
      this.#number += 1;
      const name = () => titleIn(head).slice(0, 200) || `#${this.#number}`;
      if (text === "") {
        this.#fail(name(), "large");
        continue;
      }
      try {
        const { document, leftOut } = convert(text);
        const missing = await attach(document, archive.find, readAttachment, this.#maxBytes);
        this.last = await patiently(() => this.#api.import(document));
        this.count += 1;
        this.leftOut += leftOut + missing;
      } catch (error) {
        if (error instanceof ChatError || error instanceof RangeError) this.#fail(name(), "invalid");
        else if (error instanceof ApiError && SKIPPED.has(error.status)) this.#fail(name(), error.status === 413 ? "large" : error);
        else throw error;
      }
      this.changed();
    }
  }

  /** @param {string} name @param {Reason} reason */
  #fail(name, reason) {
    this.failureCount += 1;
    if (this.failures.length < MAX_FAILURES) this.failures.push({ name, reason });
    this.changed();
  }
}

/** @typedef {Awaited<ReturnType<typeof load>>} Modules */

/** Load the converters, which are not part of a first visit. */
async function load() {
  try {
    return await import("../import/convert.js");
  } catch {
    throw new NetworkError();
  }
}
