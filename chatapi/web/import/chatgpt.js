// Chats of ChatGPT: conversations.json of its data export. `mapping` has the messages by id, with their parents.
import { clean, documentOf, isObject, textParts } from "./tree.js";

/**
 * @typedef {import("./tree.js").Part} Part
 * @typedef {import("./tree.js").Source} Source
 */

// References to sources that the export does not contain, between private characters.
const CITATIONS = /\ue200[^\ue200\ue201]*\ue201/g;
const ROLES = new Set(["user", "assistant"]); // instructions are hidden there, and results of tools are steps

/** @param {any} value */
export function isChatGPT(value) {
  return isObject(value) && isObject(value.mapping);
}

/** @param {any} chat */
export function fromChatGPT(chat) {
  /** @type {Map<string, Source>} */
  const sources = new Map();
  for (const [id, node] of Object.entries(chat.mapping)) {
    const message = isObject(node) && isObject(node.message) ? node.message : {};
    const { author, create_time: seconds, metadata } = message;
    const role = isObject(author) && ROLES.has(author.role) ? author.role : null;
    const parent = isObject(node) ? node.parent : null;
    const parts = role === null ? [] : partsOf(message);
    sources.set(id, { parent, role: role ?? "user", parts, seconds, model: isObject(metadata) ? metadata.model_slug : null });
  }
  /** @type {Record<string, string>} */
  const flags = {};
  if (chat.is_archived === true) flags["page.archived"] = "yes";
  if (chat.is_starred === true) flags["page.pinned"] = "yes";
  return documentOf({
    sources,
    current: chat.current_node,
    title: chat.title,
    created: chat.create_time,
    updated: chat.update_time,
    metadata: flags,
  });
}

/** @param {Record<string, any>} message @returns {Part[]} */
function partsOf({ content, metadata }) {
  if (!isObject(content) || (isObject(metadata) && metadata.is_visually_hidden_from_conversation === true)) return [];
  switch (content.content_type) {
    case "text":
    case "multimodal_text":
      return textParts((Array.isArray(content.parts) ? content.parts : []).map(textOf).filter(Boolean).join("\n\n"));
    case "code":
      return textParts(fenced(String(content.text ?? ""), content.language));
    case "thoughts": {
      const thoughts = Array.isArray(content.thoughts) ? content.thoughts.filter(isObject) : [];
      const lines = thoughts.flatMap(({ summary, content: text }) => [summary, text]).filter((line) => typeof line === "string");
      const text = clean(lines.join("\n\n"));
      return text.trim() === "" ? [] : [{ type: "reasoning", text }];
    }
    default:
      return [];
  }
}

/** @param {unknown} part a text, or an object with a transcript or the name of a file */
function textOf(part) {
  if (typeof part === "string") return part.replace(CITATIONS, "");
  if (!isObject(part)) return "";
  if (typeof part.text === "string") return part.text;
  return typeof part.asset_pointer === "string" ? "[Image]" : "";
}

/** @param {string} code @param {unknown} language */
function fenced(code, language) {
  if (code.trim() === "") return "";
  const longest = Math.max(2, ...(code.match(/`+/g) ?? []).slice(0, 1000).map((run) => run.length));
  const fence = "`".repeat(longest + 1);
  const name = typeof language === "string" && /^[\w+#-]{1,20}$/.test(language) && language !== "unknown" ? language : "";
  return `${fence}${name}\n${code}\n${fence}`;
}
