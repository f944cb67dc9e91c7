// Server-sent events out of a response (WHATWG HTML, section 9.2.6), as far as this API uses them.

const SILENCE_SECONDS = 35; // the server breaks silences each 10 seconds: after three of those, nobody is there

/**
 * @typedef {object} Event
 * @property {string} name
 * @property {any} data
 * @property {number} position what has come of the log, this event included
 */

/**
 * The events of a response, to its end. Ends without an error also where the connection broke: the last event
 * says whether all has come.
 * @param {Response} response
 * @returns {AsyncGenerator<Event>}
 */
export async function* events(response) {
  if (response.body === null) return;
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let buffered = "";
  try {
    for (;;) {
      const data = await readSoon(reader);
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
    reader.cancel().catch(() => {}); // of a connection that is broken already
  }
}

/**
 * The next bytes; null at the end, at a break, and after too long a silence.
 * @param {ReadableStreamDefaultReader<Uint8Array>} reader
 */
async function readSoon(reader) {
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
