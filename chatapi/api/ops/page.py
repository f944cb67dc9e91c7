"""GET / and GET /web/…: the files of the chat page.

They are read once, at the first request for one of them; any other path is not found. The page
loads its modules as one script and its styles as one sheet (bundle.py); the sources are served too. The policy allows
the page to load files from this server only, and no inline script or style and no form. Frames show previews of code
from this server's `preview/`, which has a policy of its own.

Addresses contain a hash of all files, `/web/HASH/main.js`, so browsers keep them without asking again; `/` names the
current hash. Modules and styles refer to each other by relative paths, which keeps the hash.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from chatapi.api.http.direct_route import DirectRoutes
from chatapi.api.http.services import services_of
from chatapi.api.ops.bundle import bundle
from chatapi.errors import NotFound

WEB = Path(__file__).resolve().parent.parent.parent / "web"
INDEX = "index.html"
TYPES = {  # other files in the folder are not served
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
COMPRESSED_TYPES = (".png", ".woff2")  # gzip does not make these smaller
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types dompurify highlighting offline"
)
WORKER = "service-worker.js"
PREVIEW = "preview/"
PREVIEW_SCRIPTS = ("vendor/mermaid.js", "vendor/purify.js")  # that a preview loads, in addition to its own
# The document has an origin of its own (`sandbox` without allow-same-origin), also if it is opened in a tab.
PREVIEW_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src data:; font-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'; sandbox allow-scripts"
)
UNUSED = (  # browser features that the page does not use
    "accelerometer", "autoplay", "camera", "clipboard-read", "display-capture", "encrypted-media",
    "geolocation", "gyroscope", "hid", "idle-detection", "magnetometer", "microphone", "midi", "payment",
    "picture-in-picture", "publickey-credentials-get", "screen-wake-lock", "serial", "usb", "xr-spatial-tracking",
)  # fmt: skip
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": ", ".join(f"{feature}=()" for feature in UNUSED),
    "Vary": "Accept-Encoding",
    "X-DNS-Prefetch-Control": "off",
}
FOREIGN = {"Cross-Origin-Resource-Policy": "cross-origin"}  # for a document with another origin
PREVIEW_HEADERS = HEADERS | FOREIGN | {"Content-Security-Policy": PREVIEW_POLICY}
WORKER_HEADERS = HEADERS | {"Service-Worker-Allowed": "/"}  # it handles the page, which is not under /web/
REVALIDATE = "no-cache"  # the address stays the same in the next release; mostly a 304
IMMUTABLE = "public, max-age=31536000, immutable"  # one year, the longest that caches honour
HASH = re.compile(r"[0-9a-f]{16}")

direct = DirectRoutes()


@dataclass(frozen=True)
class File:
    """A file of the page."""

    data: bytes
    suffix: str

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def gzipped(self) -> bytes | None:
        """The compressed content, or None if it is not smaller. Computed at the first request."""
        if self.suffix in COMPRESSED_TYPES:
            return None
        compressed = gzip.compress(self.data, mtime=0)
        return compressed if len(compressed) < len(self.data) else None


def read_files(folder: Path) -> dict[str, File]:
    """Read every file that is served, by its path in the folder."""
    return {
        path.relative_to(folder).as_posix(): File(path.read_bytes(), path.suffix)
        for path in sorted(folder.rglob("*"))
        if path.suffix in TYPES and path.is_file()
    }


def hash_files(files: dict[str, File]) -> str:
    """Return a hash of all paths and contents: 16 hexadecimal digits."""
    listing = "\n".join(f"{path} {file.digest}" for path, file in sorted(files.items()))
    return hashlib.sha256(listing.encode()).hexdigest()[:16]


def add_bundle(files: dict[str, File]) -> str:
    """Add the joined script and styles to the files. Returns the page that loads them."""
    texts = {path: file.data.decode() for path, file in files.items() if file.suffix in (".js", ".css")}
    page, joined = bundle(files[INDEX].data.decode(), texts)
    files.update({path: File(text.encode(), Path(path).suffix) for path, text in joined.items()})
    return page


class Site(NamedTuple):
    """The page, and all files that it may load, by their path; `content_hash` is of all of them."""

    page: File
    files: dict[str, File]
    content_hash: str


@cache
def read_site() -> Site:
    """Read and join the files. A server that only serves the API never does: they take some megabytes and 0.1 s."""
    files = read_files(WEB)
    page = add_bundle(files)
    content_hash = hash_files(files)
    return Site(File(page.replace('"/web/', f'"/web/{content_hash}/').encode(), ".html"), files, content_hash)


_reading = asyncio.Lock()  # the first requests of a page come together


async def find_site() -> Site:
    """Return the files, which the first call reads on a thread."""
    if read_site.cache_info().currsize == 0:
        async with _reading:
            await asyncio.to_thread(read_site)
    return read_site()


@direct.route("/", "GET", "HEAD")
async def index(request: Request) -> Response:
    """Serve the page."""
    services_of(request).import_routes()
    return _serve(request, (await find_site()).page, REVALIDATE)


@direct.route("/web/{path:path}", "GET", "HEAD")
async def file(request: Request) -> Response:
    """Serve a file of the page.

    A hash of another release gets the current file, which must be revalidated: an open page of the previous release can
    still load what it needs later.
    """
    site = await find_site()
    path: str = request.path_params["path"]
    first, _, rest = path.partition("/")
    name = rest if HASH.fullmatch(first) else path
    found = site.files.get(name)
    if found is None or name == INDEX:
        raise NotFound
    if "gzipped" not in vars(found):
        await asyncio.to_thread(lambda: found.gzipped)  # the largest file takes 0.2 s
    headers = PREVIEW_HEADERS if name.startswith(PREVIEW) else HEADERS
    if name in PREVIEW_SCRIPTS:
        headers = HEADERS | FOREIGN
    elif name == WORKER:
        headers = WORKER_HEADERS
    return _serve(request, found, IMMUTABLE if first == site.content_hash else REVALIDATE, headers)


def _serve(request: Request, file: File, cache_control: str, headers: dict[str, str] = HEADERS) -> Response:
    gzipped = file.gzipped if _accepts_gzip(request.headers.get("accept-encoding", "")) else None
    etag = f'"{file.digest[:32]}"' if gzipped is None else f'"{file.digest[:32]}-gzip"'
    headers = {**headers, "Cache-Control": cache_control, "ETag": etag}
    if _has(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=headers)
    content = file.data if gzipped is None else gzipped
    if gzipped is not None:
        headers["Content-Encoding"] = "gzip"
    if request.method == "HEAD":
        headers["Content-Length"] = str(len(content))
        content = b""
    return Response(content, headers=headers, media_type=TYPES[file.suffix])


def _accepts_gzip(accept_encoding: str) -> bool:
    """Whether the header lists gzip with a weight above 0."""
    for coding in accept_encoding.lower().split(","):
        name, *parameters = (part.strip() for part in coding.split(";"))
        if name in ("gzip", "x-gzip"):
            return not any(re.fullmatch(r"q=0(\.0*)?", parameter) for parameter in parameters)
    return False


def _has(tags: str, etag: str) -> bool:
    """Whether the client has this entity tag."""
    return any(tag.strip().removeprefix("W/") in (etag, "*") for tag in tags.split(","))
