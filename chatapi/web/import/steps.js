// The steps in the text of an answer of Open WebUI: reasoning, calls of tools and code that was run are elements there.
import { callPart, clean, isObject, resultPart, textParts } from "./tree.js";

/** @typedef {import("./tree.js").Part} Part */
/** @typedef {{role: "assistant" | "tool", parts: Part[]}} Step */

const STEP = /<details type="(reasoning|tool_calls|code_interpreter)"([^<>]*)>/g;
const STEP_END = "</details>";
const SUMMARY = /^\s*<summary>[^<]{0,1000}<\/summary>/;
const ATTRIBUTE = /([a-z_]{1,40})=(?:"([^"]*)"|'([^']*)')/g;
const ENTITIES = { "&lt;": "<", "&gt;": ">", "&quot;": '"', "&#x27;": "'", "&#39;": "'", "&apos;": "'", "&amp;": "&" };

/**
 * Return the messages of an answer: the results of tools are messages of their own.
 * @param {string} content
 * @param {string} id of the answer, unique in the chat
 * @returns {Step[]} at least one
 */
export function readSteps(content, id) {
  /** @type {Step[]} */
  const messages = [{ role: "assistant", parts: [] }];
  const last = () => /** @type {Step} */ (messages.at(-1)).parts;
  const addText = (/** @type {string} */ text) => last().push(...textParts(text.trim()));
  let from = 0;
  for (const found of content.matchAll(STEP)) {
    if (found.index < from) continue; // within another one
    const begin = found.index + found[0].length;
    const end = content.indexOf(STEP_END, begin);
    if (end < 0) break;
    addText(content.slice(from, found.index));
    from = end + STEP_END.length;
    const body = content.slice(begin, end).replace(SUMMARY, "").trim();
    if (found[1] === "reasoning") {
      const text = clean(unescape(body.split("\n").map((line) => line.replace(/^(?:>|&gt;) ?/, "")).join("\n")));
      if (text.trim() !== "") last().push({ type: "reasoning", text });
      continue;
    }
    const attributes = Object.fromEntries([...found[2].matchAll(ATTRIBUTE)].map(([, name, value, other]) => [name, unescape(value ?? other)]));
    const isCode = found[1] === "code_interpreter";
    const callId = `call_${id.slice(0, 40)}_${messages.length}`.replace(/[^\w-]/g, "_");
    const input = isCode ? unescape(body) : plain(attributes.arguments ?? "");
    last().push(callPart(callId, isCode ? found[1] : attributes.name, input));
    const output = isCode ? attributes.output : (attributes.result ?? unescape(body));
    if (output === undefined || output === "") continue;
    const name = isCode ? found[1] : attributes.name;
    messages.push({ role: "tool", parts: [resultPart(callId, name, plain(output))] }, { role: "assistant", parts: [] });
  }
  addText(content.slice(from));
  if (messages.length > 1 && last().length === 0) messages.pop();
  return messages;
}

/** A text that is a string of JSON in an attribute, possibly twice; other JSON as it is. @param {string} value */
function plain(value) {
  let text = value;
  for (let round = 0; round < 2; round += 1) {
    const parsed = parse(text);
    if (typeof parsed === "string") text = parsed;
    else if (isObject(parsed) && typeof parsed.stdout === "string" && typeof parsed.result !== "undefined")
      return [parsed.stdout, parsed.stderr, parsed.result].filter((one) => typeof one === "string" && one !== "").join("\n");
    else break;
  }
  return text;
}

/** @param {string} text */
function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** @param {string} text */
function unescape(text) {
  return text.replace(/&(?:lt|gt|quot|#x27|#39|apos|amp);/g, (entity) => ENTITIES[/** @type {keyof typeof ENTITIES} */ (entity)]);
}
