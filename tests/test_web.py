"""The files of the page and their headers."""

from __future__ import annotations

import http.client
import posixpath
import re
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from chatapi.api.ops.page import CONTENT_HASH, FILES, POLICY, hash_files, read_files
from scripts.vendor import VENDOR, compare
from tests.server_process import Service

pytestmark = pytest.mark.one_process("files are the same wherever they are served")


def get_raw(service: Service, path: str) -> tuple[int, bytes]:
    """Request this exact path; other clients normalize it first."""
    with closing(http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=10)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()


def test_root_serves_the_page(shared: Service) -> None:
    page = shared.get("/")
    assert page.status_code == 200
    assert page.history == []
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert f'src="/web/{CONTENT_HASH}/main.js"' in page.text


@pytest.mark.parametrize("path", ["/", "/web/main.js", "/web/vendor/katex.css", "/web/vendor/licences/katex.txt"])
def test_policy_allows_this_server_only(shared: Service, path: str) -> None:
    for method in ("GET", "HEAD"):
        headers = requests.request(method, shared.url + path, timeout=10).headers
        assert headers["content-security-policy"] == POLICY
        assert "unsafe" not in POLICY
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-dns-prefetch-control"] == "off"
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert "camera=()" in headers["permissions-policy"]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("main.js", "text/javascript; charset=utf-8"),
        ("style/base.css", "text/css; charset=utf-8"),
        ("vendor/marked.js", "text/javascript; charset=utf-8"),
        ("vendor/vendor.json", "application/json"),
        ("vendor/fonts/KaTeX_Main-Regular.woff2", "font/woff2"),
    ],
)
def test_files_have_their_media_types(shared: Service, path: str, kind: str) -> None:
    answer = shared.get(f"/web/{path}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == kind
    assert answer.content == FILES[path].data


def test_addresses_with_the_content_hash_are_kept_and_others_revalidated(shared: Service, tmp_path: Path) -> None:
    for path, cache_control in [
        ("/", "no-cache"),
        (f"/web/{CONTENT_HASH}/main.js", "public, max-age=31536000, immutable"),
        (f"/web/{CONTENT_HASH}/vendor/fonts/KaTeX_Main-Regular.woff2", "public, max-age=31536000, immutable"),
        ("/web/main.js", "no-cache"),
        ("/web/0123456789abcdef/main.js", "no-cache"),  # a page of another release
    ]:
        answer = shared.get(path)
        assert (answer.status_code, answer.headers["cache-control"]) == (200, cache_control), path
    assert len(set(re.findall(r'"(/web/[^"/]+)/', shared.get("/").text))) == 1
    (tmp_path / "main.js").write_text("1")
    first = hash_files(read_files(tmp_path))
    (tmp_path / "main.js").write_text("2")
    assert hash_files(read_files(tmp_path)) != first


@pytest.mark.parametrize("path", ["/", f"/web/{CONTENT_HASH}/vendor/marked.js", "/web/style/base.css"])
def test_text_is_compressed_for_clients_that_accept_it(shared: Service, path: str) -> None:
    plain = shared.get(path, headers={"Accept-Encoding": "identity"})
    for accepted, coding in [
        ("gzip", "gzip"),
        ("br;q=1.0, GZIP;q=0.8, *;q=0.1", "gzip"),
        ("br", None),
        ("gzip;q=0", None),
        ("gzip; q=0.000", None),
        ("", None),
    ]:
        answer = shared.get(path, headers={"Accept-Encoding": accepted})
        assert answer.headers.get("content-encoding") == coding, accepted
        assert "Accept-Encoding" in answer.headers["vary"]
        assert answer.content == plain.content
        assert int(answer.headers["content-length"]) < len(plain.content) or coding is None
        assert (answer.headers["etag"] == plain.headers["etag"]) == (coding is None)
        known = {"Accept-Encoding": accepted, "If-None-Match": answer.headers["etag"]}
        assert shared.get(path, headers=known).status_code == 304


def test_fonts_are_not_compressed_again(shared: Service) -> None:
    font = shared.get("/web/vendor/fonts/KaTeX_Main-Regular.woff2", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in font.headers


def test_first_visit_is_small() -> None:
    index = FILES["index.html"].data.decode()
    files = [FILES[path] for path in re.findall(r'(?:href|src)="/web/([^"]+)"', index)]
    assert sum(len(file.gzipped or file.data) for file in files) < 140_000
    assert len(FILES["vendor/katex.js"].data) < 300_000, "the published minified file"


def test_known_etag_gets_304(shared: Service) -> None:
    first = shared.get("/web/main.js")
    for tags in (first.headers["etag"], f'"other", W/{first.headers["etag"]}', "*"):
        again = shared.get("/web/main.js", headers={"If-None-Match": tags})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
    assert shared.get("/web/main.js", headers={"If-None-Match": '"other"'}).status_code == 200
    assert shared.get("/web/style/base.css").headers["etag"] != first.headers["etag"]


@pytest.mark.parametrize("path", ["/", "/web/vendor/marked.js"])
def test_head_has_the_content_length(shared: Service, path: str) -> None:
    head = requests.head(shared.url + path, timeout=10)
    assert (head.status_code, head.content) == (200, b"")
    body = requests.get(shared.url + path, timeout=10, stream=True).raw.read(decode_content=False)
    assert int(head.headers["content-length"]) == len(body)


@pytest.mark.parametrize(
    "path",
    [
        "/web/",
        "/web/index.html",
        "/web/vendor",
        "/web/vendor/",
        "/web/nothing.js",
        "/web//main.js",
        "/web/./main.js",
        "/web/vendor/../main.js",
        "/web/../api/ops/page.py",
        "/web/%2e%2e/api/ops/page.py",
        "/web/..%2fapi%2fops%2fpage.py",
        f"/web/{CONTENT_HASH}/",
        f"/web/{CONTENT_HASH}/index.html",
        f"/web/{CONTENT_HASH}/../main.js",
        f"/web/{CONTENT_HASH}/{CONTENT_HASH}/main.js",
        "/web/..\\api\\ops\\page.py",
        "/web/%2fetc/passwd",
        "/web//etc/passwd",
        "/web/main.js%00.html",
        "/web/MAIN.JS",
        "/main.js",
    ],
)
def test_other_paths_are_not_found(shared: Service, path: str) -> None:
    status, body = get_raw(shared, path)
    assert status == 404
    assert b'"code":"not_found"' in body


def test_other_methods_are_not_allowed(shared: Service) -> None:
    assert shared.post("/").status_code == 405
    assert shared.delete("/web/main.js").status_code == 405


def test_vendored_libraries_match_their_checksums() -> None:
    assert compare(VENDOR) == []


def test_index_preloads_every_module(shared: Service) -> None:
    reached: set[str] = set()
    waiting = {"main.js"}
    while waiting:
        path = waiting.pop()
        reached.add(path)
        text = FILES[path].data.decode()
        named = re.findall(r'^(?:import|export)\b[^;"]*"(\.[^"]+)"', text, re.MULTILINE)
        waiting |= {posixpath.normpath(posixpath.join(posixpath.dirname(path), name)) for name in named} - reached
    preloaded = re.findall(f'rel="modulepreload" href="/web/{CONTENT_HASH}/([^"]+)"', shared.get("/").text)
    assert set(preloaded) | {"main.js"} == reached
