// Keeps the page and its files, so that it opens without a connection. No answer of the API is kept: requests other than
// for `/` and for files under `/web/HASH/` pass by.

const CACHE = "chatapi.page";
const FILE = /^\/web\/[0-9a-f]{16}\//;
const FILES = /"(\/web\/[0-9a-f]{16}\/[^"]+)"/g; // named by the page
const worker = /** @type {any} */ (globalThis); // ServiceWorkerGlobalScope

worker.addEventListener("install", (/** @type {any} */ event) => event.waitUntil(keepPage(fetch("/", { cache: "no-cache" }))));

worker.addEventListener("fetch", (/** @type {any} */ event) => {
  const { request } = event;
  const { origin, pathname } = new URL(request.url);
  if (request.method !== "GET" || origin !== location.origin) return;
  if (pathname === "/" && request.mode === "navigate") event.respondWith(page(request));
  else if (FILE.test(pathname)) event.respondWith(file(request));
});

/** The page from the server, or the kept one. @param {Request} request */
async function page(request) {
  try {
    const response = await fetch(request);
    void keepPage(response.clone());
    return response;
  } catch (error) {
    const kept = await caches.match("/");
    if (kept === undefined) throw error;
    return kept;
  }
}

/** @param {Request} request */
async function file(request) {
  const kept = await caches.match(request);
  if (kept !== undefined) return kept;
  const response = await fetch(request);
  if (isImmutable(response)) await (await caches.open(CACHE)).put(request, response.clone());
  return response;
}

/**
 * Keep a page and the files that it names, and remove those of other releases.
 * @param {Response | Promise<Response>} loaded
 */
async function keepPage(loaded) {
  const response = await loaded;
  const text = await response.clone().text();
  const files = [...text.matchAll(FILES)].map(([, address]) => address);
  if (!response.ok || response.redirected || files.length === 0) return; // of a proxy, not ours
  const cache = await caches.open(CACHE);
  const release = FILE.exec(files[0])?.[0] ?? "";
  for (const { url } of await cache.keys())
    if (FILE.test(new URL(url).pathname) && !new URL(url).pathname.startsWith(release)) await cache.delete(url);
  for (const address of files) {
    if ((await cache.match(address)) !== undefined) continue;
    const fetched = await fetch(address);
    if (isImmutable(fetched)) await cache.put(address, fetched);
  }
  await cache.put("/", response);
}

/** Whether the response is a file of this release. @param {Response} response */
function isImmutable(response) {
  return response.ok && (response.headers.get("cache-control") ?? "").includes("immutable");
}
