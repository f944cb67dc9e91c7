// Registers the service worker, with which the page opens without a connection.

const WORKER = new URL("../service-worker.js", import.meta.url).href; // without a hash: the browser looks there for updates
/**
 * With trusted types, only a policy can turn an address into a script; this one allows the worker's address alone.
 * @type {string}
 */
const SCRIPT =
  /** @type {any} */ (globalThis).trustedTypes?.createPolicy("offline", { createScriptURL: () => WORKER }).createScriptURL("") ?? WORKER;

/** Browsers offer service workers on https and on this machine only. Without them, the page works as before. */
export async function keepForOffline() {
  try {
    await navigator.serviceWorker?.register(SCRIPT, { scope: "/" });
  } catch {
    // Refused by the browser, for example in a private window.
  }
}
