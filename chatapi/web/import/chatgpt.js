// Chats of ChatGPT: conversations.json of its data export. `mapping` has the messages by id, with their parents.
import { callPart, clean, documentOf, isObject, resultPart, textParts } from "./tree.js";

/**
 * @typedef {import("./tree.js").Part} Part
 * @typedef {import("./tree.js").Source} Source
 */

// References to sources that the export does not contain, between private characters.
const CITATIONS = /\ue200[^\ue200\ue201]*\ue201/g;
const ROLES = new Set(["user", "assistant", "tool"]); // instructions are hidden there
const TO_USER = "all"; // the recipient of what is shown to the user; another one is a tool
const ASSET = /^(?:[a-z-]{1,20}:\/\/)?(file[-_][a-z0-9]{1,100})/i;
const MAX_STEPS = 20; // from the result of a tool up to its call
/** Contents that are not part of the conversation. */
const IGNORED = new Set(["user_editable_context", "model_editable_context", "reasoning_recap"]);

/** @param {any} value */
export function isChatGPT(value) {
  return isObject(value) && isObject(value.mapping);
}

/** @param {any} chat @returns {import("./tree.js").Converted} */
export function fromChatGPT(chat) {
  /** @type {Map<string, Source>} */
  const sources = new Map();
  /** The ids of calls, by the id of the message. @type {Map<string, string>} */
  const calls = new Map();
  for (const [id, node] of Object.entries(chat.mapping)) if (isCall(messageOf(node))) calls.set(id, `call_${calls.size + 1}`);
  let leftOut = 0;
  for (const [id, node] of Object.entries(chat.mapping)) {
    const message = messageOf(node);
    const { author, create_time: seconds, metadata } = message;
    const role = isObject(author) && ROLES.has(author.role) ? author.role : null;
    const found = role === null || isHidden(message) ? { parts: [], leftOut: 0 } : contentOf(message);
    leftOut += found.leftOut;
    let { parts } = found;
    if (calls.has(id) && parts.length > 0) parts = callParts(message, parts, String(calls.get(id)));
    if (role === "tool" && parts.length > 0) parts = resultParts(message, parts, callOf(chat.mapping, id, calls));
    const parent = isObject(node) ? node.parent : null;
    sources.set(id, { parent, role: role ?? "user", parts, seconds, model: isObject(metadata) ? metadata.model_slug : null });
  }
  /** @type {Record<string, string>} */
  const flags = {};
  if (chat.is_archived === true) flags["page.archived"] = "yes";
  if (chat.is_starred === true) flags["page.pinned"] = "yes";
  const document = documentOf({
    sources,
    current: chat.current_node,
    title: chat.title,
    created: chat.create_time,
    updated: chat.update_time,
    metadata: flags,
  });
  return { document, leftOut };
}

/** @param {unknown} node @returns {Record<string, any>} */
function messageOf(node) {
  return isObject(node) && isObject(node.message) ? node.message : {};
}

/** @param {Record<string, any>} message */
function isHidden({ metadata }) {
  return isObject(metadata) && metadata.is_visually_hidden_from_conversation === true;
}

/** @param {Record<string, any>} message */
function isCall({ author, recipient }) {
  return isObject(author) && author.role === "assistant" && typeof recipient === "string" && recipient !== TO_USER;
}

/**
 * The call of a result: the nearest one above it.
 * @param {Record<string, unknown>} mapping
 * @param {string} id of the result
 * @param {Map<string, string>} calls
 */
function callOf(mapping, id, calls) {
  let above = id;
  for (let step = 0; step < MAX_STEPS; step += 1) {
    const node = mapping[above];
    const parent = isObject(node) ? node.parent : null;
    if (typeof parent !== "string" || !Object.hasOwn(mapping, parent)) break;
    const call = calls.get(parent);
    if (call !== undefined) return call;
    above = parent;
  }
  return "call_0"; // without a call
}

/** @param {Record<string, any>} message @param {Part[]} parts @param {string} callId @returns {Part[]} */
function callParts({ content, recipient }, parts, callId) {
  const code = isObject(content) && content.content_type === "code" ? content.text : null;
  const text = typeof code === "string" ? clean(code) : parts.map((part) => part.text ?? "").join("\n\n");
  return [callPart(callId, recipient, text)];
}

/** @param {Record<string, any>} message @param {Part[]} parts @param {string} callId @returns {Part[]} */
function resultParts({ author }, parts, callId) {
  const texts = parts.flatMap(({ type, text }) => (type === "text" && text !== undefined ? [text] : []));
  return [resultPart(callId, author.name, texts.join("\n\n")), ...parts.filter(({ asset }) => asset !== undefined)];
}

/** @param {Record<string, any>} message @returns {{parts: Part[], leftOut: number}} */
function contentOf({ content, metadata }) {
  if (!isObject(content)) return { parts: [], leftOut: 0 };
  switch (content.content_type) {
    case "text":
    case "multimodal_text":
      return mixed(Array.isArray(content.parts) ? content.parts : [], isObject(metadata) ? metadata.attachments : []);
    case "code":
      return only(textParts(fenced(String(content.text ?? ""), content.language)));
    case "execution_output":
    case "system_error":
    case "tether_quote":
      return only(textParts([content.title, content.text].filter((text) => typeof text === "string").join("\n\n")));
    case "tether_browsing_display":
      return only(textParts(content.result));
    case "thoughts": {
      const thoughts = Array.isArray(content.thoughts) ? content.thoughts.filter(isObject) : [];
      const lines = thoughts.flatMap(({ summary, content: text }) => [summary, text]).filter((line) => typeof line === "string");
      const text = clean(lines.join("\n\n"));
      return only(text.trim() === "" ? [] : [{ type: "reasoning", text }]);
    }
    default:
      return { parts: [], leftOut: IGNORED.has(content.content_type) ? 0 : 1 };
  }
}

/** @param {Part[]} parts */
function only(parts) {
  return { parts, leftOut: 0 };
}

/**
 * Texts, images, recordings of which there is a transcript, and attached files.
 * @param {unknown[]} contents
 * @param {unknown} attachments
 * @returns {{parts: Part[], leftOut: number}}
 */
function mixed(contents, attachments) {
  /** @type {Part[]} */
  const parts = [];
  /** @type {string[]} */
  let texts = [];
  let leftOut = 0;
  const endText = () => {
    parts.push(...textParts(texts.join("\n\n")));
    texts = [];
  };
  const shown = new Set();
  for (const one of contents) {
    if (typeof one === "string" || (isObject(one) && typeof one.text === "string")) {
      const text = typeof one === "string" ? one.replace(CITATIONS, "") : one.text;
      if (text !== "") texts.push(text);
      continue;
    }
    if (!isObject(one)) continue;
    const asset = ASSET.exec(String(one.asset_pointer))?.[1];
    if (asset === undefined || /audio|video/.test(String(one.content_type))) {
      leftOut += 1;
      continue;
    }
    shown.add(asset);
    endText();
    parts.push({ type: "image", asset, filename: "" });
  }
  endText();
  for (const one of Array.isArray(attachments) ? attachments.filter(isObject) : []) {
    const asset = ASSET.exec(String(one.id))?.[1] ?? "";
    if (shown.has(asset)) continue;
    parts.push({ type: "file", asset, filename: typeof one.name === "string" ? clean(one.name) : "" });
  }
  return { parts, leftOut };
}

/** @param {string} code @param {unknown} language */
function fenced(code, language) {
  if (code.trim() === "") return "";
  const longest = Math.max(2, ...(code.match(/`+/g) ?? []).slice(0, 1000).map((run) => run.length));
  const fence = "`".repeat(longest + 1);
  const name = typeof language === "string" && /^[\w+#-]{1,20}$/.test(language) && language !== "unknown" ? language : "";
  return `${fence}${name}\n${code}\n${fence}`;
}
