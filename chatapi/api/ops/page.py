"""GET / and GET /web/…: the page, as its files are.

They are read once, at the start: what is served is that list, whatever a path says, and no request reaches the disk.
The page is allowed nothing from elsewhere, nothing inline, and no form or frame.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request, Response

from chatapi.errors import NotFound

WEB = Path(__file__).resolve().parent.parent.parent / "web"
INDEX = "index.html"
TYPES = {  # the kinds of files that are served; any other in the folder is not
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types dompurify highlighting"
)
UNUSED = (  # what a browser could do for a page, and this one has no use for
    "accelerometer", "autoplay", "camera", "clipboard-read", "display-capture", "encrypted-media",
    "geolocation", "gyroscope", "hid", "idle-detection", "magnetometer", "microphone", "midi", "payment",
    "picture-in-picture", "publickey-credentials-get", "screen-wake-lock", "serial", "usb", "xr-spatial-tracking",
)  # fmt: skip
HEADERS = {
    "Cache-Control": "no-cache",  # asked for again each time, so that a new release is seen at once; mostly a 304
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": ", ".join(f"{feature}=()" for feature in UNUSED),
    "X-DNS-Prefetch-Control": "off",
}

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class File:
    """A file of the page."""

    data: bytes
    media_type: str
    etag: str


def read_files(folder: Path) -> dict[str, File]:
    """Every file of the page by its path in the folder."""
    return {
        path.relative_to(folder).as_posix(): _read(path)
        for path in sorted(folder.rglob("*"))
        if path.suffix in TYPES and path.is_file()
    }


def _read(path: Path) -> File:
    data = path.read_bytes()
    return File(data, TYPES[path.suffix], f'"{hashlib.sha256(data).hexdigest()[:32]}"')


FILES = read_files(WEB)


@router.api_route("/", methods=["GET", "HEAD"])
async def index(request: Request) -> Response:
    """The page."""
    return _serve(request, FILES[INDEX])


@router.api_route("/web/{path:path}", methods=["GET", "HEAD"])
async def file(request: Request, path: str) -> Response:
    """What the page is made of."""
    found = FILES.get(path)
    if found is None or path == INDEX:
        raise NotFound
    return _serve(request, found)


def _serve(request: Request, file: File) -> Response:
    headers = {**HEADERS, "ETag": file.etag}
    if _has(request.headers.get("if-none-match", ""), file.etag):
        return Response(status_code=304, headers=headers)
    if request.method == "HEAD":
        headers["Content-Length"] = str(len(file.data))
    return Response(b"" if request.method == "HEAD" else file.data, headers=headers, media_type=file.media_type)


def _has(tags: str, etag: str) -> bool:
    """Is this one among the tags that the client has?"""
    return any(tag.strip().removeprefix("W/") in (etag, "*") for tag in tags.split(","))
