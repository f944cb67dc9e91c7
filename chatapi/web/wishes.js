// What a person asks for beside the message: a model, and parameters. They belong to the session, and are kept in its
// metadata, where every other device and client finds them.
import { local } from "./storage.js";

/** @typedef {import("./types.d.ts").Wishes} Wishes */

const PREFIX = "chat."; // of the names in the metadata
const MODEL = "chatapi.model"; // the one of last time, for the next new session

/** @type {(keyof Wishes)[]} */
export const NAMES = ["model", "temperature", "top_p", "max_completion_tokens", "reasoning_effort", "seed"];
const NUMBERS = new Set(["temperature", "top_p", "max_completion_tokens", "seed"]);

/** @returns {Wishes} of a session that begins */
export function freshWishes() {
  return { ...nothing(), model: local.get(MODEL) ?? "" };
}

/**
 * @param {Record<string, string>} metadata
 * @returns {Wishes}
 */
export function wishesIn(metadata) {
  const wishes = nothing();
  for (const name of NAMES) wishes[name] = metadata[PREFIX + name] ?? "";
  return wishes;
}

/**
 * The metadata with these wishes in it, and everything else as it was.
 * @param {Record<string, string>} metadata
 * @param {Wishes} wishes
 */
export function withWishes(metadata, wishes) {
  const others = Object.entries(metadata).filter(([name]) => !name.startsWith(PREFIX));
  const ours = NAMES.filter((name) => wishes[name] !== "").map((name) => [PREFIX + name, wishes[name]]);
  return Object.fromEntries([...others, ...ours]);
}

/** @param {Wishes} wishes */
export function rememberModel(wishes) {
  local.set(MODEL, wishes.model);
}

export function forgetModel() {
  local.set(MODEL, null);
}

/**
 * The wishes as fields of a request. What is no number stays a text: the server says what is wrong with it.
 * @param {Wishes} wishes
 * @returns {Record<string, string | number>}
 */
export function fieldsOf(wishes) {
  /** @type {Record<string, string | number>} */
  const fields = {};
  for (const name of NAMES) {
    const value = wishes[name].trim();
    if (value === "") continue;
    const number = Number(value);
    fields[name] = NUMBERS.has(name) && Number.isFinite(number) ? number : value;
  }
  return fields;
}

/** @returns {Wishes} */
function nothing() {
  return { model: "", temperature: "", top_p: "", max_completion_tokens: "", reasoning_effort: "", seed: "" };
}
