// Chats of Open WebUI: the file of "Export chats". `history.messages` has the messages by id, with their parents.
import { clean, documentOf, isObject, textParts } from "./tree.js";

/**
 * @typedef {import("./tree.js").Part} Part
 * @typedef {import("./tree.js").Source} Source
 */

const ROLES = new Set(["user", "assistant", "system"]);
const REASONING = /<details type="reasoning"[^<>]{0,200}>\s*(?:<summary>[^<]{0,200}<\/summary>)?/g;
const REASONING_END = "</details>";
const ENTITIES = { "&lt;": "<", "&gt;": ">", "&quot;": '"', "&#x27;": "'", "&amp;": "&" };
const IMAGE_URL = /^(?:data:image\/|https?:\/\/)/i;

/** @param {any} value */
export function isOpenWebUI(value) {
  const chat = isObject(value) && isObject(value.chat) ? value.chat : value;
  return isObject(chat) && ((isObject(chat.history) && isObject(chat.history.messages)) || Array.isArray(chat.messages));
}

/** @param {any} value */
export function fromOpenWebUI(value) {
  const chat = isObject(value.chat) ? value.chat : value;
  const tree = isObject(chat.history) && isObject(chat.history.messages) ? chat.history : null;
  /** @type {Map<string, Source>} */
  const sources = new Map();
  if (tree !== null) for (const [id, message] of Object.entries(tree.messages)) sources.set(id, sourceOf(message, message?.parentId));
  else for (const [at, message] of chat.messages.entries()) sources.set(String(at), sourceOf(message, at ? String(at - 1) : null));
  /** @type {Record<string, string>} */
  const flags = {};
  if (value.archived === true) flags["page.archived"] = "yes";
  if (value.pinned === true) flags["page.pinned"] = "yes";
  const system = isObject(chat.params) ? chat.params.system : null;
  return documentOf({
    sources,
    current: tree?.currentId,
    title: value.title ?? chat.title,
    created: value.created_at ?? chat.timestamp,
    updated: value.updated_at,
    instructions: typeof system === "string" ? system : "",
    metadata: flags,
  });
}

/** @param {unknown} message @param {unknown} parent @returns {Source} */
function sourceOf(message, parent) {
  if (!isObject(message) || !ROLES.has(message.role)) return { parent, role: "user", parts: [], seconds: null, model: null };
  const { role, content, files, timestamp: seconds, model } = message;
  const parts = role === "assistant" ? answerParts(content) : textParts(content);
  if (role === "user") parts.push(...(Array.isArray(files) ? files : []).flatMap(filePart));
  return { parent, role, parts, seconds, model };
}

/** The reasoning is an element in the text there. @param {unknown} content @returns {Part[]} */
function answerParts(content) {
  if (typeof content !== "string") return [];
  const reasoning = [];
  const texts = [];
  let from = 0;
  for (const found of content.matchAll(REASONING)) {
    if (found.index < from) continue; // within another one
    const begin = found.index + found[0].length;
    const end = content.indexOf(REASONING_END, begin);
    if (end < 0) break;
    texts.push(content.slice(from, found.index));
    reasoning.push(plain(content.slice(begin, end)));
    from = end + REASONING_END.length;
  }
  const thoughts = clean(reasoning.join("\n\n"));
  return [
    ...(thoughts.trim() === "" ? [] : [{ type: "reasoning", text: thoughts }]),
    ...textParts([...texts, content.slice(from)].join("").trim()),
  ];
}

/** @param {string} quoted */
function plain(quoted) {
  const lines = quoted.trim().split("\n").map((line) => line.replace(/^(?:>|&gt;) ?/, ""));
  return lines.join("\n").replace(/&(?:lt|gt|quot|#x27|amp);/g, (entity) => ENTITIES[/** @type {keyof typeof ENTITIES} */ (entity)]);
}

/** @param {unknown} file @returns {Part[]} */
function filePart(file) {
  if (!isObject(file)) return [];
  if (file.type === "image" && typeof file.url === "string" && IMAGE_URL.test(file.url)) return [{ type: "image", url: clean(file.url) }];
  return typeof file.name === "string" ? textParts(`[${file.name}]`) : [];
}
