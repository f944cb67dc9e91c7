// The files of an export: the chats, and the images and documents beside them. An export is one JSON file or a ZIP file.
import { FileError } from "./json-elements.js";
import { isZip, openEntry, readEntries } from "./zip.js";

/** @typedef {import("./zip.js").Entry} Entry */

const CHATS = /(?:^|\/)conversations(?:-\d{1,6})?\.json$/i;
const JSON_FILE = /(?:^|\/)[^/]+\.json$/i;
const NOT_CHATS = /(?:^|\/)(?:__MACOSX|\.)/; // of the system that packed the files
const ASSET = /(?:^|\/)(file[-_][a-z0-9]+)(?:[-_.][^/]*)?$/i;
const MAX_CHAT_FILES = 1000;
const MAX_ASSET_BYTES = 32 * 1024 * 1024;
/** The types of files that models can read, with the bytes at their beginning. @type {[string, RegExp][]} */
const TYPES = [
  ["image/png", /^\x89PNG\r\n\x1a\n/],
  ["image/jpeg", /^\xff\xd8\xff/],
  ["image/gif", /^GIF8[79]a/],
  ["image/webp", /^RIFF[^]{4}WEBP/],
  ["application/pdf", /^%PDF-/],
];

/**
 * @typedef {object} Archive
 * @property {number} size of all chats, in bytes
 * @property {() => AsyncGenerator<ReadableStream<Uint8Array>>} chats the files with chats
 * @property {(id: string, name: string) => Promise<File | null>} find a file that a chat names; null if there is none that
 *   can be used
 */

/**
 * @param {File} file
 * @returns {Promise<Archive>}
 * @throws {FileError}
 */
export async function openArchive(file) {
  if (!(await isZip(file))) return { size: file.size, chats: () => one(file), find: async () => null };
  const entries = (await readEntries(file)).filter(({ path }) => !NOT_CHATS.test(path));
  const named = entries.filter(({ path }) => CHATS.test(path));
  const chats = named.length > 0 ? named : entries.filter(({ path }) => JSON_FILE.test(path));
  const compressed = chats.reduce((sum, entry) => sum + entry.compressed, 0);
  // Entries that share their data could make the work larger than the file.
  if (chats.length === 0 || chats.length > MAX_CHAT_FILES || compressed > file.size) throw new FileError();
  chats.sort((one, other) => one.path.localeCompare(other.path, "en", { numeric: true }));
  /** @type {Map<string, Entry>} */
  const assets = new Map();
  for (const entry of entries) {
    const id = ASSET.exec(entry.path)?.[1];
    if (id !== undefined && !assets.has(id)) assets.set(id, entry);
  }
  return {
    size: chats.reduce((sum, { size }) => sum + size, 0),
    chats: () => all(file, chats),
    find: async (id, name) => {
      const entry = assets.get(id);
      return entry === undefined || entry.size > MAX_ASSET_BYTES ? null : readAsset(file, entry, name);
    },
  };
}

/** @param {File} file */
async function* one(file) {
  yield file.stream();
}

/** @param {File} file @param {Entry[]} entries */
async function* all(file, entries) {
  for (const entry of entries) yield await openEntry(file, entry);
}

/** @param {File} file @param {Entry} entry @param {string} name */
async function readAsset(file, entry, name) {
  try {
    const bytes = await new Response(await openEntry(file, entry)).blob();
    const start = String.fromCharCode(...new Uint8Array(await bytes.slice(0, 16).arrayBuffer()));
    const type = TYPES.find(([, beginning]) => beginning.test(start))?.[0];
    return type === undefined ? null : new File([bytes], name, { type });
  } catch {
    return null; // a damaged image does not cost the chat
  }
}
