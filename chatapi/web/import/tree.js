// Turns the messages of another program's export into the tree of a session document. Nothing here is recursive: the
// links between messages may be as deep as a file is long.

/**
 * `asset` is the id of a file of the export, which `attach` replaces by its content.
 * @typedef {{type: string, text?: string, url?: string, data?: string, asset?: string, filename?: string, call_id?: string,
 *   name?: string, arguments?: string}} Part
 * @typedef {"user" | "assistant" | "system" | "tool"} Role
 */

/**
 * A message of the other program. One without parts is left out, and its children follow its parent.
 * @typedef {{parent: unknown, role: Role, parts: Part[], seconds: unknown, model: unknown}} Source
 */

/** @typedef {{id: string, parent_id: string | null, role: Role, parts: Part[], created_at: string, [name: string]: unknown}} MessageDocument */

/**
 * The document of a session, and how much of the chat it does not contain.
 * @typedef {{document: {messages: MessageDocument[]}, leftOut: number}} Converted
 */

/** The chat cannot be converted: its messages follow each other in a circle, or it is none. */
export class ChatError extends Error {}

const MAX_TITLE_CHARACTERS = 200;
const DERIVED_TITLE_CHARACTERS = 60;
const MAX_MODEL_CHARACTERS = 256;
const MAX_TOOL_CHARACTERS = 64;
const LATEST_SECONDS = 253_370_764_800; // 9999-01-01
const MOST_SECONDS = 1e11; // a larger time is in milliseconds or smaller units
const LATEST_NANOSECONDS = 1e20;
const UNKNOWN_MODEL = "unknown";

/**
 * Return the document of a session.
 * @param {object} chat
 * @param {Map<string, Source>} chat.sources by their ids, parents before or after their children
 * @param {unknown} chat.current the id of the last message of the active path
 * @param {unknown} chat.title
 * @param {unknown} chat.created in seconds
 * @param {unknown} chat.updated in seconds
 * @param {string} [chat.instructions]
 * @param {Record<string, string>} [chat.metadata]
 * @throws {ChatError}
 */
export function documentOf({ sources, current, title, created, updated, instructions = "", metadata = {} }) {
  const kept = nearestKept(sources);
  /** @type {Map<string | null, string[]>} */
  const children = new Map();
  for (const [id, { parent, parts }] of sources) {
    if (parts.length === 0) continue;
    const above = known(sources, parent) ? (kept.get(String(parent)) ?? null) : null;
    const siblings = children.get(above);
    if (siblings === undefined) children.set(above, [id]);
    else siblings.push(id);
  }
  const now = new Date().toISOString();
  const createdAt = time(created) ?? now;
  /** @type {MessageDocument[]} */
  const messages = [];
  /** @type {Map<string, MessageDocument>} */
  const documents = new Map();
  /** @type {(string | null)[]} */
  const pending = [null];
  for (let at = 0; at < pending.length; at += 1) {
    const parentId = pending[at];
    const parent = parentId === null ? undefined : documents.get(parentId);
    const below = children.get(parentId) ?? [];
    for (const id of below) {
      const source = /** @type {Source} */ (sources.get(id));
      // Steps of one answer follow each other as messages of their own.
      const isStep = source.role === "assistant" && parent?.role === "assistant" && below.length === 1;
      if (isStep && parent !== undefined) {
        append(parent.parts, source.parts);
        if (parent.model === UNKNOWN_MODEL) parent.model = model(source.model);
        documents.set(id, parent);
      } else {
        const document = messageOf(`m${messages.length}`, parent?.id ?? null, source, time(source.seconds) ?? createdAt);
        messages.push(document);
        documents.set(id, document);
      }
      pending.push(id);
    }
  }
  const head = known(sources, current) ? documents.get(kept.get(String(current)) ?? "") : undefined;
  return {
    format: "chatapi.session",
    version: 1,
    exported_at: now,
    session: {
      title: titleOf(title, messages),
      developer_message: clean(instructions),
      metadata,
      created_at: createdAt,
      last_updated: time(updated) ?? createdAt,
      head: (head ?? messages.at(-1))?.id ?? null,
    },
    messages,
  };
}

/** @param {Map<string, Source>} sources @param {unknown} id */
function known(sources, id) {
  return typeof id === "string" && sources.has(id);
}

/**
 * Return for each message the nearest one with parts, itself or above it; null if there is none.
 * @param {Map<string, Source>} sources
 */
function nearestKept(sources) {
  /** @type {Map<string, string | null>} */
  const found = new Map();
  for (const start of sources.keys()) {
    /** @type {Set<string>} */
    const walked = new Set();
    /** @type {string | null} */
    let id = start;
    while (id !== null && !found.has(id)) {
      if (walked.has(id)) throw new ChatError();
      walked.add(id);
      const { parent } = /** @type {Source} */ (sources.get(id));
      id = known(sources, parent) ? String(parent) : null;
    }
    let above = id === null ? null : (found.get(id) ?? null);
    for (const one of [...walked].reverse()) {
      if (/** @type {Source} */ (sources.get(one)).parts.length > 0) above = one;
      found.set(one, above);
    }
  }
  return found;
}

/**
 * @param {string} id
 * @param {string | null} parentId
 * @param {Source} source
 * @param {string} at
 * @returns {MessageDocument}
 */
function messageOf(id, parentId, { role, parts, model: named }, at) {
  const message = { id, parent_id: parentId, role, parts: parts.map((part) => ({ ...part })), created_at: at };
  return role === "assistant" ? { ...message, model: model(named), status: "completed", ended_at: at } : message;
}

/** Append parts; two texts in a row become two paragraphs. @param {Part[]} parts changed in place @param {Part[]} more */
function append(parts, more) {
  const last = parts.at(-1);
  if (last?.type === "text" && more[0]?.type === "text") last.text += "\n\n";
  parts.push(...more.map((part) => ({ ...part })));
}

/** @param {unknown} title @param {MessageDocument[]} messages */
function titleOf(title, messages) {
  const given = typeof title === "string" ? cut(title, MAX_TITLE_CHARACTERS) : "";
  if (given !== "") return given;
  const text = messages.find((message) => message.role === "user")?.parts.find((part) => part.type === "text")?.text ?? "";
  return cut(text, DERIVED_TITLE_CHARACTERS) || null;
}

/** @param {string} text */
function cut(text, /** @type {number} */ characters) {
  const line = clean(text.slice(0, characters * 4)).replace(/\s+/g, " ").trim();
  return clean([...line].slice(0, characters).join(""));
}

/** @param {unknown} name */
function model(name) {
  const text = typeof name === "string" ? clean(name.slice(0, MAX_MODEL_CHARACTERS)).trim() : "";
  return text || UNKNOWN_MODEL;
}

/** A text that the server accepts: without NUL and unpaired surrogates. @param {string} text */
export function clean(text) {
  return text.replaceAll("\0", "").replace(/\p{Surrogate}/gu, "\ufffd");
}

/** The parts of a text; none if it is blank. @param {unknown} text @returns {Part[]} */
export function textParts(text) {
  const cleaned = typeof text === "string" ? clean(text) : "";
  return cleaned.trim() === "" ? [] : [{ type: "text", text: cleaned }];
}

/**
 * A call of a tool. Model APIs accept names of letters, digits, `_` and `-`, and arguments that are a JSON object.
 * @param {string} callId
 * @param {unknown} name
 * @param {string} input
 * @returns {Part}
 */
export function callPart(callId, name, input) {
  const text = clean(input);
  let isJson = false;
  try {
    isJson = isObject(JSON.parse(text));
  } catch {
    // it is another text, such as code
  }
  return { type: "tool_call", call_id: callId, name: toolName(name), arguments: isJson ? text : JSON.stringify({ input: text }) };
}

/**
 * The result of a tool.
 * @param {string} callId
 * @param {unknown} name
 * @param {string} text
 * @returns {Part}
 */
export function resultPart(callId, name, text) {
  return { type: "tool_result", call_id: callId, name: toolName(name), text: clean(text) };
}

/** @param {unknown} name */
function toolName(name) {
  const text = typeof name === "string" ? name.slice(0, MAX_TOOL_CHARACTERS).replace(/[^\w-]/g, "_") : "";
  return text || "tool";
}

/** @param {unknown} seconds since 1970, or a smaller unit @returns {string | null} */
function time(seconds) {
  let value = typeof seconds === "number" && seconds < LATEST_NANOSECONDS ? seconds : NaN;
  while (value > MOST_SECONDS) value /= 1000;
  return value >= 0 && value < LATEST_SECONDS ? new Date(value * 1000).toISOString() : null;
}

/** @param {unknown} value @returns {value is Record<string, any>} */
export function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
