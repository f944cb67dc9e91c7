// Error messages for the user. The API's own messages address programs: they name headers, fields and settings.
import { ApiError } from "./api/client.js";
import { strings } from "./strings.js";

const FOR_PROGRAMS = /[^.;:]*\bRetry-After\b[^.]*\.?/g; // a sentence that repeats a header of the response

const NAMES_TIME = /\btry again in \d/i; // a provider's sentence says when
const KEPT = /\s*The text received so far is kept\./; // the page shows that itself, where it is so
const SENTENCE_END = /[.!?…。！？؟]["'”’»)]*$/;

/** Codes of errors that another key can avoid. */
const KEY_CODES = new Set(["authentication_failed", "api_key_required", "invalid_api_key_format"]);

/**
 * Return sentences that name the problem and the remedy.
 * @param {unknown} error
 */
export function errorText(error) {
  if (!(error instanceof ApiError)) return strings.unreachable;
  const { code, status, message, retryAfter } = error;
  if (code !== null) return failureText(code, message, status === 429 ? retryAfter : null);
  if (status === 413) return strings.errors.body_too_large;
  return status >= 500 ? strings.unavailable : strings.intercepted; // a proxy has answered
}

/**
 * The same for an answer that failed.
 * @param {string} code
 * @param {string | null} detail
 * @param {number | null} retryAfter seconds, if the server named a time
 */
export function failureText(code, detail, retryAfter) {
  /** @type {Record<string, string>} */
  const known = strings.errors;
  const text = Object.hasOwn(known, code) ? known[code] : (detail ?? "").replace(FOR_PROGRAMS, "").replace(KEPT, "").trim();
  if (retryAfter === null || NAMES_TIME.test(text)) return text;
  const sentence = text === "" || SENTENCE_END.test(text) ? text : `${text}.`; // a provider's text may lack its full stop
  return `${sentence} ${strings.retryIn(retryAfter)}`.trim();
}

/** Whether another key may help. @param {string | null | undefined} code */
export function isAboutKey(code) {
  return KEY_CODES.has(code ?? "");
}
