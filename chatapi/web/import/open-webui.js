// Chats of Open WebUI: the file of "Export chats". `history.messages` has the messages by id, with their parents.
import { readSteps } from "./steps.js";
import { clean, documentOf, isObject, textParts } from "./tree.js";

/**
 * @typedef {import("./tree.js").Part} Part
 * @typedef {import("./tree.js").Source} Source
 */

const ROLES = new Set(["user", "assistant", "system"]);
const IMAGE_URL = /^(?:data:image\/|https?:\/\/)/i;
const MAX_FILE_CHARACTERS = 200_000; // of the text in an attached file

/** @param {any} value */
export function isOpenWebUI(value) {
  const chat = isObject(value) && isObject(value.chat) ? value.chat : value;
  return isObject(chat) && ((isObject(chat.history) && isObject(chat.history.messages)) || Array.isArray(chat.messages));
}

/** @param {any} value @returns {import("./tree.js").Converted} */
export function fromOpenWebUI(value) {
  const chat = isObject(value.chat) ? value.chat : value;
  const tree = isObject(chat.history) && isObject(chat.history.messages) ? chat.history : null;
  /** @type {Map<string, Source>} */
  const sources = new Map();
  let leftOut = 0;
  const add = (/** @type {string} */ id, /** @type {unknown} */ message, /** @type {unknown} */ parent) => {
    leftOut += addMessage(sources, id, message, parent);
  };
  if (tree !== null) for (const [id, message] of Object.entries(tree.messages)) add(id, message, message?.parentId);
  else for (const [at, message] of chat.messages.entries()) add(String(at), message, at ? String(at - 1) : null);
  /** @type {Record<string, string>} */
  const flags = {};
  if (value.archived === true) flags["page.archived"] = "yes";
  if (value.pinned === true) flags["page.pinned"] = "yes";
  const system = isObject(chat.params) ? chat.params.system : null;
  const document = documentOf({
    sources,
    current: tree?.currentId,
    title: value.title ?? chat.title,
    created: value.created_at ?? chat.timestamp,
    updated: value.updated_at,
    instructions: typeof system === "string" ? system : "",
    metadata: flags,
  });
  return { document, leftOut };
}

/**
 * Add a message. An answer that calls tools becomes several, the last of which has its id. Returns the number of files that
 * are left out.
 * @param {Map<string, Source>} sources
 * @param {string} id
 * @param {unknown} message
 * @param {unknown} parent
 */
function addMessage(sources, id, message, parent) {
  if (!isObject(message) || !ROLES.has(message.role)) {
    sources.set(id, { parent, role: "user", parts: [], seconds: null, model: null });
    return 0;
  }
  const { role, content, timestamp: seconds, model } = message;
  const files = Array.isArray(message.files) ? message.files.filter(isObject) : [];
  if (role !== "assistant") {
    const read = files.map(filePart);
    const parts = [...textParts(content), ...read.flatMap((file) => file.parts)];
    sources.set(id, { parent, role, parts, seconds, model });
    return read.filter((file) => file.isLeftOut).length;
  }
  const messages = readSteps(typeof content === "string" ? content : "", id);
  for (const file of files) messages.at(-1)?.parts.push(...textParts(`[${nameOf(file)}]`));
  messages.forEach(({ role: kind, parts }, at) => {
    const own = at === messages.length - 1 ? id : `${id}\0${at}`;
    sources.set(own, { parent: at === 0 ? parent : `${id}\0${at - 1}`, role: kind, parts, seconds, model });
  });
  return files.length;
}

/** @param {Record<string, any>} file */
function nameOf({ name, type, url }) {
  const isImage = type === "image" || String(url).startsWith("data:image/");
  return typeof name === "string" ? name : isImage ? "Image" : "File";
}

/** @param {Record<string, any>} file of a user @returns {{parts: Part[], isLeftOut: boolean}} */
function filePart(file) {
  if (file.type === "image" && typeof file.url === "string" && IMAGE_URL.test(file.url))
    return { parts: [{ type: "image", url: clean(file.url) }], isLeftOut: false };
  const text = isObject(file.file) && isObject(file.file.data) ? file.file.data.content : null;
  if (typeof text === "string" && text.trim() !== "" && text.length <= MAX_FILE_CHARACTERS)
    return { parts: textParts(`[${nameOf(file)}]\n\n${text}`), isLeftOut: false };
  return { parts: textParts(`[${nameOf(file)}]`), isLeftOut: true };
}
