// Server-sent events from a response (WHATWG HTML, section 9.2.6): the subset that this API sends.

const SILENCE_SECONDS = 35; // the server sends a heartbeat every 10 seconds; after three missed ones the connection is dead

/**
 * @typedef {object} Event
 * @property {string} name
 * @property {any} data
 * @property {number} position in the log, after this event
 */

/**
 * Yield the events of a response. Ends without an error when the connection breaks or falls silent: only a `done` or
 * `error` event means that the answer is complete.
 * @param {Response} response
 * @returns {AsyncGenerator<Event>}
 */
export async function* readEvents(response) {
  if (response.body === null) return;
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let buffered = "";
  try {
    for (;;) {
      const data = await readOrTimeOut(reader);
      if (data === null) return;
      buffered += decoder.decode(data, { stream: true });
      const blocks = buffered.split("\n\n");
      buffered = blocks.pop() ?? "";
      for (const block of blocks) {
        const event = parse(block);
        if (event !== null) yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // the connection may be broken already
  }
}

/**
 * Read the next bytes. Returns null at the end, after a break, and after too long a silence.
 * @param {ReadableStreamDefaultReader<Uint8Array>} reader
 */
async function readOrTimeOut(reader) {
  let timer = 0;
  const silence = new Promise((resolve) => {
    timer = setTimeout(resolve, SILENCE_SECONDS * 1000, null);
  });
  try {
    const result = await Promise.race([reader.read(), silence]);
    return result === null || result.done ? null : result.value;
  } catch {
    return null;
  } finally {
    clearTimeout(timer);
  }
}

/**
 * @param {string} block the lines of one event
 * @returns {Event | null} null for a comment
 */
function parse(block) {
  let name = "message";
  let data = "";
  let position = 0;
  for (const line of block.split("\n")) {
    if (line.startsWith("event: ")) name = line.slice(7);
    else if (line.startsWith("data: ")) data += line.slice(6);
    else if (line.startsWith("id: ")) position = Number(line.slice(4));
  }
  return data ? { name, data: JSON.parse(data), position } : null;
}
