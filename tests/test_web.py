"""The files of the page and their headers."""

from __future__ import annotations

import http.client
import json
import posixpath
import re
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from chatapi.api.ops.bundle import MAP, SCRIPT, STYLE, BundleError, bundle
from chatapi.api.ops.page import POLICY, PREVIEW_POLICY, WEB, hash_files, read_files, read_site
from scripts.vendor import VENDOR, compare
from tests.browser import Visitor
from tests.node_clients import TYPESCRIPT, node
from tests.server_process import PROJECT, Service

PAGE, FILES, CONTENT_HASH = read_site()

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
    assert f'src="/web/{CONTENT_HASH}/{SCRIPT}"' in page.text


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


def test_preview_has_no_origin_and_a_policy_of_its_own(shared: Service) -> None:
    for path in ("frame.html", "frame.js"):
        headers = shared.get(f"/web/preview/{path}").headers
        assert headers["content-security-policy"] == PREVIEW_POLICY
        assert headers["cross-origin-resource-policy"] == "cross-origin"  # its scripts are of another origin
    assert "sandbox allow-scripts" in PREVIEW_POLICY
    assert "allow-same-origin" not in PREVIEW_POLICY
    assert shared.get("/web/vendor/marked.js").headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("main.js", "text/javascript; charset=utf-8"),
        ("style/elements.css", "text/css; charset=utf-8"),
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


@pytest.mark.parametrize("path", ["/", f"/web/{CONTENT_HASH}/vendor/marked.js", "/web/style/elements.css"])
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
    paths = re.findall(rf'(?:href|src)="/web/{CONTENT_HASH}/([^"]+)"', PAGE.data.decode())
    assert sorted(paths) == ["icon.svg", "manifest.webmanifest", "page.css", "page.js", "theme.js"]
    files = [PAGE, *(FILES[path] for path in paths)]
    assert sum(len(file.gzipped or file.data) for file in files) < 130_000
    assert len(FILES["vendor/katex.js"].data) < 300_000, "the published minified file"


def test_second_visit_asks_for_the_page_alone(shared: Service, new_visitor: Callable[..., Visitor]) -> None:
    page = new_visitor(service_workers="block").open(shared)  # an option brings a profile that has cached nothing
    files = "performance.getEntriesByType('resource').filter(one => one.name.includes('/web/'))"
    for is_first in (True, False):
        page.get_by_label("OpenAI API key").wait_for()
        sizes = page.evaluate(f"{files}.map(one => one.transferSize)")
        assert len(sizes) >= 3
        assert all(sizes) if is_first else not any(sizes)
        page.goto(shared.url)


def test_known_etag_gets_304(shared: Service) -> None:
    first = shared.get("/web/main.js")
    for tags in (first.headers["etag"], f'"other", W/{first.headers["etag"]}', "*"):
        again = shared.get("/web/main.js", headers={"If-None-Match": tags})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
    assert shared.get("/web/main.js", headers={"If-None-Match": '"other"'}).status_code == 200
    assert shared.get("/web/style/elements.css").headers["etag"] != first.headers["etag"]


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


CATALOGUES = """
const read = async path => (await import(path)).strings;
const [english, ...others] = await Promise.all(process.argv.slice(1).map(read));
const NUMBERS = [0, 1, 2, 3, 11, 41, 100];
const placeholders = text => [41, 42, 43].filter(number => String(text).includes(number)).join();
const look = (one, other, path, faults) => {
  if (typeof one !== typeof other || Array.isArray(one) !== Array.isArray(other)) faults.push(`${path}: another type`);
  else if (typeof one === 'function') {
    if (placeholders(one(41, 42, 43)) !== placeholders(other(41, 42, 43))) faults.push(`${path}: other placeholders`);
    for (const number of NUMBERS)
      if (/undefined|^$/.test(other(number, number, number))) faults.push(`${path}: no form for ${number}`);
  } else if (typeof one === 'object') {
    for (const key of new Set([...Object.keys(one), ...Object.keys(other)]))
      if (!(key in one && key in other)) faults.push(`${path}.${key}: in one catalogue only`);
      else look(one[key], other[key], `${path}.${key}`, faults);
  } else if ((one === '') !== (other === '')) faults.push(`${path}: empty`);
};
const faults = [];
others.forEach((other, index) => look(english, other, process.argv[index + 2].split('/').at(-1), faults));
console.log(JSON.stringify([others.length, faults]));
"""


@pytest.mark.needs_node
def test_every_language_has_the_same_texts_and_placeholders() -> None:
    paths = [WEB / "strings.js", *sorted((WEB / "languages").glob("*.js"))]
    command = [node(), "--input-type=module", "-e", CATALOGUES, *(path.as_uri() for path in paths)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert json.loads(said) == [6, []]


@pytest.mark.needs_node
def test_types_of_the_page_are_right() -> None:
    command = [node(), str(TYPESCRIPT), "--pretty", "false", "-p", str(PROJECT / "jsconfig.json")]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (checked.stdout, checked.returncode) == ("", 0)


def test_vendored_libraries_match_their_checksums() -> None:
    assert compare(VENDOR) == []


INDEX = '<link rel="stylesheet" href="/web/a.css">\n<link rel="stylesheet" href="/web/b.css" media="print">\n' + (
    '<script type="module" src="/web/main.js"></script>'
)
SHEETS = {"a.css": "/* Why. */\na {}\n", "b.css": "b {}\n"}


def test_script_contains_every_module_once_after_what_it_imports() -> None:
    order = json.loads(FILES[MAP].data)["sources"]
    assert len(order) == len(set(order))
    for path in order:
        text = FILES[path].data.decode()
        for name in re.findall(r'^import\b[^;"]*"(\.[^"]+)"', text, re.MULTILINE):
            needed = posixpath.normpath(posixpath.join(posixpath.dirname(path), name))
            assert order.index(needed) < order.index(path)
    ours = {
        path
        for path in FILES
        if path.endswith(".js") and not path.startswith(("vendor/", "docs/", "preview/", "languages/", "import/"))
    }
    assert ours - set(order) == {SCRIPT, "theme.js", "service-worker.js", "markdown/highlighting-worker.js"}


def test_joined_modules_keep_names_and_lines() -> None:
    files = SHEETS | {
        "main.js": '// Says.\nimport {\n  one as two,\n} from "./lib/one.js";\n/** Why.\n * @type {1} */\nlog(two);\n',
        "lib/one.js": "export const one = import.meta.url;\nexport async function f() {\n  // Why.\n  return 1;\n}\n",
    }
    page, made = bundle(INDEX, files)
    assert page.count("/web/") == 2
    assert made[STYLE] == "a {}\n@media print {\nb {}\n}\n"
    assert made[SCRIPT].split("\n") == [
        "const m0 = (() => {",
        'const one = new URL("./lib/one.js", import.meta.url);',
        "async function f() {",
        "  return 1;",
        "}",
        "return {one, f};",
        "})();",
        "const m1 = (() => {",
        "const { one: two, } = m0;",
        "log(two);",
        "return {};",
        "})();",
        f"//# sourceMappingURL={MAP}",
        "",
    ]
    # Lines 0, 1, 3, 4 of the first module, then 1 and 6 of the second one.
    assert json.loads(made[MAP])["mappings"] == ";AAAA;AACA;AAEA;AACA;;;;ACHA;AAKA;;"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('import "./main.js";\n', "main.js imports itself"),
        ('import "./none.js";\n', "none.js does not exist"),
        ("export let count = 0;\n", "main.js has an import or export that cannot be joined"),
        ('import * as all from "./one.js";\n', "cannot be joined"),
    ],
)
def test_module_that_cannot_be_joined_is_named(text: str, message: str) -> None:
    with pytest.raises(BundleError, match=re.escape(message)):
        bundle(INDEX, SHEETS | {"main.js": text, "one.js": ""})
