"""The Markdown of descriptions as HTML: paragraphs, lists, code and bold text. Other markup is shown as it is."""

from __future__ import annotations

import re
from html import escape


def to_html(text: str) -> str:
    """Return Markdown as HTML; everything that is not markup is escaped."""
    return "".join(_block(block) for block in re.split(r"\n\s*\n", text.strip()) if block.strip())


def to_inline_html(text: str) -> str:
    """Return one paragraph of Markdown as HTML, without its element."""
    html = escape(" ".join(text.split()))
    html = re.sub(r"`([^`]+)`", r"<code>\1</code>", html)
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", html)


def _block(block: str) -> str:
    if not block.startswith("- "):
        return f"<p>{to_inline_html(block)}</p>"
    items = re.split(r"^- ", block, flags=re.MULTILINE)[1:]
    return "<ul>" + "".join(f"<li>{to_inline_html(item)}</li>" for item in items) + "</ul>"
