// Clients in one process, driven by lines of JSON on stdin. Each line is for a client, opens, commands or closes it, and
// gets one line of JSON as its answer.
import { createInterface } from 'node:readline';

const SECONDS = 60; // for one command

// Node's own fetch reads its connections from a dispatcher; the class is not exported, its global instance can be found.
await fetch('data:,');
const Agent = globalThis[Symbol.for('undici.globalDispatcher.1')].constructor;

// `fetch` on connections of its own: `destroy` closes them all, as the end of a process does.
export function ownFetch() {
  const dispatcher = new Agent();
  return {
    fetch: (url, init) => fetch(url, { ...init, dispatcher }),
    destroy: () => dispatcher.destroy(),
  };
}

// `open(options)` returns a client: `do(command)` returns the answer to a command, `close()` closes its connections.
export async function serve(open) {
  const clients = new Map();
  for await (const line of createInterface({ input: process.stdin })) {
    const { client: id, open: options, close, ...command } = JSON.parse(line);
    let answer = {};
    if (options) {
      clients.set(id, open(options));
    } else if (close) {
      await clients.get(id).close();
      clients.delete(id);
    } else {
      answer = await withinSeconds(clients.get(id).do(command), command.do);
    }
    console.log(JSON.stringify(answer));
  }
  process.exit(0);
}

async function withinSeconds(promise, name) {
  let timer;
  const late = new Promise(resolve => {
    timer = setTimeout(resolve, SECONDS * 1000, { failed: `${name}: no answer within ${SECONDS} seconds` });
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
