// Work on all sessions of the user: export, one after the other, and deletion.
import { ApiError } from "../api/client.js";

/**
 * @typedef {import("../api/client.js").Api} Api
 * @typedef {import("../types.d.ts").Session} Session
 */

const FORMAT = "chatapi.sessions"; // of a file with several exported sessions
const MAX_WAITS = 20; // for a rate limit, in a row

/**
 * Export all sessions with all branches as one document, which `Importer` reads.
 * @param {Api} api
 * @param {(done: number) => void} onProgress
 * @throws {ApiError | import("../api/client.js").NetworkError}
 */
export async function exportAll(api, onProgress) {
  const sessions = [];
  for (const { session_id: id } of await allSessions(api)) {
    const { content } = await patiently(() => api.export(id, "json"));
    sessions.push(JSON.parse(await content.text()));
    onProgress(sessions.length);
  }
  return { format: FORMAT, version: 1, sessions };
}

/**
 * Delete all sessions.
 * @param {Api} api
 * @throws {ApiError | import("../api/client.js").NetworkError}
 */
export async function deleteAll(api) {
  await patiently(() => api.deleteSessions());
}

/** @param {Api} api */
async function allSessions(api) {
  /** @type {Session[]} */
  const all = [];
  /** @type {string | null} */
  let cursor = null;
  do {
    const at = /** @type {string | null} */ (cursor);
    /** @type {import("../types.d.ts").Page<Session>} */
    const page = await patiently(() => api.sessions(at));
    all.push(...page.data);
    cursor = page.next_cursor;
  } while (cursor !== null);
  return all;
}

/**
 * Repeat a request that a rate limit refuses, after the time that the server names.
 * @template T
 * @param {() => Promise<T>} request
 * @returns {Promise<T>}
 */
export async function patiently(request) {
  for (let waits = 0; ; waits += 1) {
    try {
      return await request();
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 429 || waits >= MAX_WAITS) throw error;
      await new Promise((resolve) => setTimeout(resolve, (error.retryAfter ?? 1) * 1000));
    }
  }
}
