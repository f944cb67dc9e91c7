// Puts files of an export into the messages that name them, as the composer attaches files.
import { textParts } from "./tree.js";

/** @typedef {import("./tree.js").Part} Part */

const MAX_FILES = 500; // of one chat
const USABLE_SHARE = 0.8; // of the size that the document of a session may have

/**
 * Replace the files that parts name by their content, and those that there are not by their names in brackets. Returns how
 * many were left out.
 * @param {{messages: import("./tree.js").MessageDocument[]}} document changed in place
 * @param {(id: string, name: string) => Promise<File | null>} find
 * @param {(file: File, maxBytes: number) => Promise<{type: string, url?: string, data?: string}>} read throws if the file is
 *   too large or damaged
 * @param {number} maxBytes of the document
 */
export async function attach(document, find, read, maxBytes) {
  let left = maxBytes * USABLE_SHARE - JSON.stringify(document).length;
  let files = 0;
  let leftOut = 0;
  for (const message of Array.isArray(document.messages) ? document.messages : []) {
    if (!message.parts?.some?.((part) => part.asset !== undefined)) continue;
    /** @type {Part[]} */
    const parts = [];
    for (const part of message.parts) {
      if (part.asset === undefined) {
        parts.push(part);
        continue;
      }
      files += 1;
      const name = part.filename || (part.type === "image" ? "Image" : "File");
      const added = message.role === "assistant" || files > MAX_FILES ? null : await load(part.asset, name);
      if (added !== null) {
        left -= (added.url ?? added.data ?? "").length;
        parts.push(added);
        continue;
      }
      leftOut += 1;
      const [result] = parts;
      if (message.role === "tool" && result !== undefined) result.text = [result.text, `[${name}]`].filter(Boolean).join("\n\n");
      else parts.push(...textParts(`[${name}]`));
    }
    message.parts = parts;
  }
  return leftOut;

  /** @param {string} asset @param {string} name @returns {Promise<Part | null>} */
  async function load(asset, name) {
    const file = await find(asset, name);
    if (file === null) return null;
    try {
      const { type, url, data } = await read(file, left);
      return type === "image" ? { type, url } : { type, data, filename: name };
    } catch {
      return null;
    }
  }
}
