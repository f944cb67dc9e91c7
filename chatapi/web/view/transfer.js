// Export to files, and the deletion of all sessions.
import { errorText } from "../error-text.js";
import { deleteAll, exportAll } from "../state/bulk.js";
import { strings } from "../strings.js";

/** @typedef {import("../state/chat.js").Chat} Chat */

/**
 * Download a session as a file.
 * @param {Chat} chat
 * @param {string} id
 * @param {"markdown" | "json"} format
 */
export async function exportSession(chat, id, format) {
  await reporting(chat, async () => {
    const { name, content } = await chat.api.export(id, format);
    save(content, name);
  });
}

/** Download all sessions as one file. @param {Chat} chat */
export async function exportAllSessions(chat) {
  await reporting(chat, async () => {
    chat.toasts.show(strings.sessions.exporting);
    const document = await exportAll(chat.api, () => {});
    const day = new Date().toISOString().slice(0, 10);
    save(new Blob([JSON.stringify(document)], { type: "application/json" }), `chats-${day}.json`);
  });
}

/** @param {Chat} chat */
export async function deleteAllSessions(chat) {
  await reporting(chat, async () => {
    await deleteAll(chat.api);
    chat.toasts.show(strings.sessions.allDeleted);
  });
  await chat.onAllDeleted();
}

/** @param {Chat} chat @param {() => Promise<void>} work */
async function reporting(chat, work) {
  try {
    await work();
  } catch (error) {
    chat.toasts.show(errorText(error));
  }
}

/** @param {Blob} content @param {string} name */
function save(content, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
