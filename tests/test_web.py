"""The files of the page and their headers."""

from __future__ import annotations

import http.client
import posixpath
import re
from contextlib import closing
from urllib.parse import urlsplit

import pytest
import requests

from chatapi.api.ops.page import FILES, POLICY
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
    assert 'src="/web/main.js"' in page.text


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
        assert headers["cache-control"] == "no-cache"
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
    assert int(head.headers["content-length"]) == len(shared.get(path).content)


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
        named = re.findall(r'^(?:import|export)\b[^;]*?\bfrom "(\.[^"]+)"', text, re.MULTILINE)
        waiting |= {posixpath.normpath(posixpath.join(posixpath.dirname(path), name)) for name in named} - reached
    preloaded = re.findall('rel="modulepreload" href="/web/([^"]+)"', shared.get("/").text)
    assert set(preloaded) | {"main.js"} == reached
