// Converts a chat of an export to a session document: of this service, of ChatGPT or of Open WebUI.
import { fromChatGPT, isChatGPT } from "./chatgpt.js";
import { fromOpenWebUI, isOpenWebUI } from "./open-webui.js";
import { ChatError, isObject } from "./tree.js";

export { openArchive } from "./archive.js";
export { attach } from "./attach.js";
export { FileError, readElements } from "./json-elements.js";
export { ChatError };

/**
 * Return the document of a chat for `POST /api/sessions/import`, except files of the export, which `attach` adds.
 * @param {string} text JSON
 * @returns {import("./tree.js").Converted}
 * @throws {ChatError}
 */
export function convert(text) {
  let chat;
  try {
    chat = JSON.parse(text);
  } catch {
    throw new ChatError();
  }
  if (isObject(chat) && chat.format === "chatapi.session") return { document: /** @type {any} */ (chat), leftOut: 0 }; // the server checks it
  if (isChatGPT(chat)) return fromChatGPT(chat);
  if (isOpenWebUI(chat)) return fromOpenWebUI(chat);
  throw new ChatError();
}

/** The title of a chat that was not converted, as far as its beginning shows it. @param {string} head */
export function titleIn(head) {
  const found = /"title"\s*:\s*("(?:[^"\\]|\\.){1,200}")/.exec(head);
  try {
    return found === null ? "" : String(JSON.parse(found[1]));
  } catch {
    return "";
  }
}
