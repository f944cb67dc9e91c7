"""Joins the modules of the page into one script and its style sheets into one, so that a first visit is a few requests.

The sources stay files that browsers run: every module is wrapped in a function, its imports and exports become
constants, and comment lines are left out. A source map gives the developer tools the original files. No module may
import itself through others, and exports are constants, functions and classes.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable, Mapping

SCRIPT, STYLE, MAP = "page.js", "page.css", "page.js.map"
VENDOR = "vendor/"

_IMPORT = re.compile(
    r"""^import\s*(?:(?P<names>[^"';]+?)\s*from\s*)?["'](?P<path>\.[^"']+)["'];?[^\n]*$""", re.MULTILINE
)
_DYNAMIC = re.compile(r"""\bimport\(\s*["'](?P<path>\.[^"']+)["']\s*\)""")
_META = "import.meta.url"
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function\*?|class|const) (?P<name>\w+))", re.MULTILINE)
_EXPORTED = re.compile(r"\bexport\s*\{(?P<names>[^}]*)\};?")
_LEFT = re.compile(r"^(?:import|export)\b", re.MULTILINE)
_LINKED = re.compile(r' *<link rel="stylesheet" href="/web/([^"]+)"(?: media="(\w+)")?>\n')
_ENTRY = re.compile(r'<script type="module" src="/web/([^"]+)"></script>')
_BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


class BundleError(Exception):
    """A module uses syntax that cannot be joined; the message names the module."""


def bundle(index: str, files: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Join the modules and style sheets that the start page loads.

    Returns the page with one script and one style sheet, and the new files by their names. `files` are the sources by
    their paths. Raises: BundleError.
    """
    sheets = _LINKED.findall(index)
    entry = _ENTRY.search(index)
    if entry is None or not sheets:
        raise BundleError("index.html must load a module and style sheets.")
    index = _LINKED.sub("", index)
    head = f'<link rel="stylesheet" href="/web/{STYLE}">\n    <script type="module" src="/web/{SCRIPT}"></script>'
    script, source_map = _join_modules(entry[1], files)
    index = index.replace(entry[0], head)
    return index, {SCRIPT: script, MAP: source_map, STYLE: _join_sheets(sheets, files)}


def _join_sheets(sheets: Iterable[tuple[str, str]], files: Mapping[str, str]) -> str:
    """Join style sheets in their order. They must refer to no other files."""
    texts = []
    for path, media in sheets:
        text = re.sub(r"/\*.*?\*/\s*", "", files[path], flags=re.DOTALL)
        texts.append(f"@media {media} {{\n{text}}}\n" if media else text)
    return "".join(texts)


def _join_modules(entry: str, files: Mapping[str, str]) -> tuple[str, str]:
    """Return the script, and its source map."""
    order = _in_order(entry, files)
    names = {path: f"m{number}" for number, path in enumerate(order)}
    lines: list[str] = []
    places: list[tuple[int, int] | None] = []  # source and line of each line
    for number, path in enumerate(order):
        opening, body, closing = _wrap(path, files[path], names)
        kept = [
            (text, line)
            for line, text in enumerate(body.split("\n"))
            if text.strip() and not text.startswith("//# sourceMappingURL=")
        ]
        lines += [opening, *(text for text, _ in kept), closing]
        places += [None, *((number, line) for _, line in kept), None]
    script = "\n".join([*lines, f"//# sourceMappingURL={MAP}", ""])
    return script, json.dumps({"version": 3, "sources": order, "names": [], "mappings": _mappings(places)})


def _in_order(entry: str, files: Mapping[str, str]) -> list[str]:
    """Return the modules that the entry reaches, each after all that it imports."""
    order: list[str] = []
    open_paths: list[str] = []

    def visit(path: str) -> None:
        if path in order:
            return
        if path in open_paths or path not in files:
            reason = "imports itself" if path in open_paths else "does not exist"
            raise BundleError(f"{path} {reason}: {' > '.join([*open_paths, path])}")
        open_paths.append(path)
        for found in _IMPORT.finditer(files[path]):
            visit(_resolve(path, found["path"]))
        open_paths.pop()
        order.append(path)

    visit(entry)
    return order


def _wrap(path: str, text: str, names: Mapping[str, str]) -> tuple[str, str, str]:
    """Return the lines before a module, the module with its lines in place, and the lines after it."""
    exports: list[str] = []

    def bind(found: re.Match[str]) -> str:
        bound = _binding(path, (found["names"] or "").strip(), names[_resolve(path, found["path"])])
        return bound + "\n" * found[0].count("\n")

    def name_exports(found: re.Match[str]) -> str:
        pairs = [part.split(" as ") for part in found["names"].split(",") if part.strip()]
        exports.extend(f"{pair[-1].strip()}: {pair[0].strip()}" for pair in pairs)
        return ""

    def take_export(found: re.Match[str]) -> str:
        exports.append(found["name"])
        return ""

    if not path.startswith(VENDOR):
        text = _without_comment_lines(text)
    text = _IMPORT.sub(bind, text)
    text = _EXPORTED.sub(name_exports, text)
    text = _EXPORT.sub(take_export, text)
    if _LEFT.search(text):
        raise BundleError(f"{path} has an import or export that cannot be joined.")
    text = text.replace(_META, f'new URL("./{path}", {_META})')
    text = _DYNAMIC.sub(lambda found: f'import("./{_resolve(path, found["path"])}")', text)
    return f"const {names[path]} = (() => {{", text, f"return {{{', '.join(exports)}}};\n}})();"


def _binding(path: str, imported: str, module: str) -> str:
    """Return the statement that binds imported names."""
    if not imported:
        return ""
    if imported.startswith("{"):
        return f"const {' '.join(imported.split()).replace(' as ', ': ')} = {module};"
    if re.fullmatch(r"\w+", imported):
        return f"const {imported} = {module}.default;"
    raise BundleError(f"{path}: `import {imported}` cannot be joined.")


def _without_comment_lines(text: str) -> str:
    """Empty the lines that contain nothing but a comment."""
    lines = text.split("\n")
    is_open = False
    for at, line in enumerate(lines):
        stripped = line.strip()
        if not is_open and not stripped.startswith(("//", "/**")):
            continue
        starts = stripped.startswith("/**") and not is_open
        ends = stripped.endswith("*/")
        if starts and not ends and "*/" in stripped:
            continue  # a type in front of code
        is_open = (is_open or starts) and not ends
        lines[at] = ""
    return "\n".join(lines)


def _resolve(path: str, named: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), named))


def _mappings(places: Iterable[tuple[int, int] | None]) -> str:
    """Encode the source and line of each line (ECMA-426, section 9.2). The closing lines of a module are two."""
    groups: list[str] = []
    source, line = 0, 0
    is_closing = False
    for place in places:
        if place is None:
            groups += [""] * (2 if is_closing else 1)
            is_closing = not is_closing
            continue
        groups.append(f"A{_vlq(place[0] - source)}{_vlq(place[1] - line)}A")
        source, line = place
    return ";".join(groups)


def _vlq(number: int) -> str:
    """Encode an integer in base 64 with a variable length."""
    rest = -number * 2 + 1 if number < 0 else number * 2
    digits = ""
    while True:
        rest, digit = rest >> 5, rest & 31
        digits += _BASE64[digit | (32 if rest else 0)]
        if not rest:
            return digits
