// Error messages for the user.
import { ApiError } from "./api/client.js";
import { strings } from "./strings.js";

/**
 * Return a sentence that says what went wrong.
 * @param {unknown} error
 */
export function errorText(error) {
  if (!(error instanceof ApiError)) return strings.unreachable;
  if (error.code === null) return strings.notOurs(error.status);
  if (error.code === "session_busy") return strings.busy;
  if (error.status === 429 && error.retryAfter !== null) return strings.tooMany(error.retryAfter);
  return error.message;
}
