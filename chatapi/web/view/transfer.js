// Export to a file and import from one.
import { ApiError } from "../api/client.js";
import { errorText } from "../error-text.js";
import { strings } from "../strings.js";

/** @typedef {import("../state/chat.js").Chat} Chat */

/**
 * Download a session as a file.
 * @param {Chat} chat
 * @param {string} id
 * @param {"markdown" | "json"} format
 */
export async function exportSession(chat, id, format) {
  try {
    const { name, content } = await chat.api.export(id, format);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(content);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  } catch (error) {
    chat.toasts.show(errorText(error));
  }
}

/**
 * @param {Chat} chat
 * @param {File} file made by an export in JSON
 */
export async function importSession(chat, file) {
  try {
    await chat.importSession(JSON.parse(await file.text()));
  } catch (error) {
    const isInvalid = error instanceof SyntaxError || (error instanceof ApiError && error.code === "invalid_request");
    chat.toasts.show(isInvalid ? strings.sessions.notAnExport(file.name) : errorText(error));
  }
}
