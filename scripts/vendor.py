"""The libraries of the page, from pinned npm packages: `python -m scripts.vendor`, or `--check` to compare.

They are served as published, byte for byte. Each package is pinned by its hash, so that no registry can deliver another
one; each file by its own in `vendor.json`, so that a change of any file is found offline. Use no release that is
younger than a week.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

VENDOR = Path(__file__).resolve().parent.parent / "chatapi/web/vendor"
OUR_TYPES = ".d.ts"  # written by us, beside the files that they describe
LIST = "vendor.json"


@dataclass(frozen=True)
class Package:
    """A pinned package and its files that we use. In `files`, `*` stands for any text, the same on both sides."""

    name: str
    version: str
    licence: str
    sha512: str
    files: dict[str, str]


ICONS = (
    "archive", "arrow-down", "arrow-up", "brain", "chart-column", "check", "chevron-down", "chevron-left",
    "chevron-right", "circle-question-mark", "copy", "copy-plus", "download", "ellipsis", "file-text", "folder",
    "git-branch", "globe", "key-round", "keyboard", "lightbulb", "list-checks", "list-ordered", "list-plus",
    "menu", "monitor", "moon", "panel-left", "paperclip", "pencil", "pin", "pin-off", "play", "refresh-cw",
    "search", "settings", "share-2", "sliders-horizontal", "square", "square-pen", "star", "sun", "table-2",
    "trash", "triangle-alert", "unplug", "upload", "user-round", "volume-2", "wrench", "x", "zap",
)  # fmt: skip

PACKAGES = [
    Package(
        "htm",
        "3.1.1",
        "Apache-2.0",
        "983Vyg8NwUE7JkZ6NmOqpCZ+sh1bKv2iYTlUkzlWmA5JD2acKoxd4KVxbMmxX/85mtfdnDmTFoNKcg5DGAvxNQ==",
        {"preact/standalone.module.js": "htm-preact.js", "LICENSE": "licences/htm.txt"},
    ),
    # htm's standalone module has Preact in it, whose licence is not in htm's package.
    Package(
        "preact",
        "10.9.0",
        "MIT",
        "jO6/OvCRL+OT8gst/+Q2ir7dMybZAX8ioP02Zmzh3BkQMHLyqZSujvxbUriXvHi8qmhcHKC2Gwbog6Kt+YTh+Q==",
        {"LICENSE": "licences/preact.txt"},
    ),
    Package(
        "marked",
        "18.2.1",
        "MIT",
        "ii4bxCTCqqwpT86XZWgJNs+ZnAIZksmLGYMViWA7PDIXYIeNo1x6cDdX3JOip9NM/cI6p8z57FxliACboTruMA==",
        {"lib/marked.esm.js": "marked.js", "LICENSE": "licences/marked.txt"},
    ),
    Package(
        "dompurify",
        "3.4.18",
        "Apache-2.0 or MPL-2.0",
        "ofe3wI/uNm68HInABYFJYqQxRw1EaKAjNdrFVKqjUY+UZurvNd2L/HuQe097s/4RivWiZyP6tT7aoT8atjfhwg==",
        {"dist/purify.min.js": "purify.js", "LICENSE": "licences/dompurify.txt"},
    ),
    Package(
        "@highlightjs/cdn-assets",
        "11.12.0",
        "BSD-3-Clause",
        "KvOKXODaiFmId9xaq3xc5xCL66wVLUuOngDbO9B/kewbFTqdGbn2nJxNhN3H5R1cgDTVj6R8vH0zgiNDEGjpDw==",
        {"es/highlight.min.js": "highlight.js", "LICENSE": "licences/highlight.txt"},
    ),
    Package(
        "lucide",
        "1.65.0",
        "ISC",
        "mtWm+77jbrebaz5Nv7lqL0Oj41fuNPxtUOjm1UxHjCDiwKqE5uEYxcfyZcnZrz9KDcmYQbIWcovs/bn+s16kEw==",
        {
            **{f"dist/esm/icons/{icon}.mjs": f"lucide/{icon}.js" for icon in ICONS},
            "LICENSE": "licences/lucide.txt",
        },
    ),
    Package(
        "katex",
        "0.19.1",
        "MIT",
        "jG8uKntjSEcm2EpQOh0XturpPuuC9r3Sq5HLHdsFdWZT27E672SF19QEi+of0/YeOy15lDgRhKvr5614uRrEfA==",
        {
            "dist/katex.min.js": "katex.js",
            "dist/katex.min.css": "katex.css",
            "dist/contrib/mhchem.min.js": "mhchem.js",
            "dist/fonts/*.woff2": "fonts/*.woff2",
            "LICENSE": "licences/katex.txt",
        },
    ),
    # Without mind maps and architecture diagrams, which would double its size.
    Package(
        "@mermaid-js/tiny",
        "11.17.2",
        "MIT",
        "PmFr1c5cSfNf5AngLLR98DrbvR4U5KeD7I+hQkGqG5w5Veu3QT4dG0qu9f99cpn/sKj2XxRBK0q7EL6hr9NY/A==",
        {"dist/mermaid.tiny.js": "mermaid.js", "LICENSE": "licences/mermaid.txt"},
    ),
]


def main(arguments: list[str] | None = None) -> int:
    """Create the folder, or compare it; return 1 if it differs from its list."""
    parser = argparse.ArgumentParser(prog="python -m scripts.vendor", description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare the files with vendor.json; asks no registry")
    if not parser.parse_args(arguments).check:
        make(VENDOR)
    differences = compare(VENDOR)
    for difference in differences:
        print(difference)
    return 1 if differences else 0


def make(folder: Path) -> None:
    """Replace the contents of `folder` with the files of the packages."""
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    with tempfile.TemporaryDirectory() as scratch:
        packages = [_take(package, Path(scratch), fresh) for package in PACKAGES]
    (fresh / LIST).write_text(json.dumps({"packages": packages}, indent=2) + "\n")
    for types in folder.glob(f"*{OUR_TYPES}"):
        shutil.copy(types, fresh)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)


def _take(package: Package, scratch: Path, folder: Path) -> dict[str, object]:
    command = ["npm", "pack", "--silent", "--ignore-scripts", f"{package.name}@{package.version}"]
    packed = subprocess.run(command, cwd=scratch, check=True, capture_output=True, text=True).stdout.split()[-1]
    archive = scratch / packed
    found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != package.sha512:
        sys.exit(f"{package.name} {package.version} is not the pinned package: its SHA-512 is {found}.")
    files = {}
    with tarfile.open(archive) as content:
        for member in content.getmembers():
            name = _name(package, member.name.removeprefix("package/"))
            file = content.extractfile(member) if name else None
            if not name or file is None:
                continue
            data = file.read()
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            files[name] = _sha256(data)
    about: dict[str, object] = {"name": package.name, "version": package.version, "licence": package.licence}
    return about | {"files": dict(sorted(files.items()))}


def _name(package: Package, path: str) -> str | None:
    """Return our name of a file of the package; None for a file that we do not use."""
    for pattern, name in package.files.items():
        before, star, after = pattern.partition("*")
        if path == pattern:
            return name
        if star and path.startswith(before) and path.endswith(after):
            return name.replace("*", path[len(before) : len(path) - len(after)])
    return None


def compare(folder: Path) -> list[str]:
    """Return a sentence for each difference between `folder`, its list, and the packages pinned here."""
    packages = json.loads((folder / LIST).read_text())["packages"]
    listed = {name: sha256 for package in packages for name, sha256 in package["files"].items()}
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(OUR_TYPES)]
    there = {path.relative_to(folder).as_posix(): path for path in files}
    del there[LIST]
    differences = [f"{name} is missing." for name in sorted(listed.keys() - there.keys())]
    differences += [f"{name} is not in {LIST}." for name in sorted(there.keys() - listed.keys())]
    for name in sorted(listed.keys() & there.keys()):
        if _sha256(there[name].read_bytes()) != listed[name]:
            differences.append(f"{name} is not what {LIST} says.")
    pinned = [(package.name, package.version) for package in PACKAGES]
    if pinned != [(package["name"], package["version"]) for package in packages]:
        differences.append(f"{LIST} was made from other packages than are pinned.")
    return differences


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
