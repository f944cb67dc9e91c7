"""The prose of the project: comments, docstrings, messages and documents, as text to be checked."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

from tests.server_process import PROJECT

SUFFIXES = {".py", ".md", ".js", ".mjs", ".yaml", ".yml", ".toml", ".css"}
GENERATED = ("chatapi/web/vendor/", "tests/data/", "requirements")
# Strings here are what a simulated model or a user of a test says, not messages of the service.
SPEECH = ("chatapi/simulator/", "tests/", "bench/", "scripts/pictures.py")
JAVASCRIPT_COMMENT = re.compile(r"/\*.*?\*/|(?<![:\"'])//[^\n]*", re.DOTALL)
HASH_COMMENT = re.compile(r"(?:^|\s)#\s(.*)$", re.MULTILINE)
CODE_BLOCK = re.compile(r"^```.*?^```$|`[^`\n]*`", re.DOTALL | re.MULTILINE)


def files() -> list[str]:
    """The names of all files with prose, as Git knows them, relative to the project."""
    listed = subprocess.run(["git", "ls-files"], cwd=PROJECT, check=True, capture_output=True, text=True).stdout
    return [
        name
        for name in listed.splitlines()
        if (Path(name).suffix in SUFFIXES or name in {"run", "Dockerfile"})
        and not name.startswith(GENERATED)
        and (PROJECT / name).is_file()
    ]


def whole(name: str) -> str:
    """Return the text of a file."""
    return (PROJECT / name).read_text()


def prose_and_more(name: str) -> str:
    """Return `prose` and some code; faster, because it reads no tokens of Python."""
    text = whole(name)
    if not name.endswith(".py"):
        return prose(name)
    return "\n".join([*re.findall("#.*", text), *_strings(text, messages=not name.startswith(SPEECH))])


def prose(name: str) -> str:
    """Return the comments, docstrings and messages of a file, or the text of a document without its code."""
    text = whole(name)
    match Path(name).suffix:
        case ".py":
            return "\n".join(_python(text, messages=not name.startswith(SPEECH)))
        case ".js" | ".mjs" | ".css":
            return "\n".join(JAVASCRIPT_COMMENT.findall(text))
        case ".md":
            return CODE_BLOCK.sub(" ", text)
        case _:
            return "\n".join(HASH_COMMENT.findall(text))


def _python(text: str, *, messages: bool) -> Iterator[str]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string
    yield from _strings(text, messages=messages)


def _strings(text: str, *, messages: bool) -> Iterator[str]:
    tree = ast.parse(text)
    docstrings = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstrings.add(ast.get_docstring(node, clean=False))
            yield ast.get_docstring(node) or ""
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if messages and " " in text and text not in docstrings:
                yield text
