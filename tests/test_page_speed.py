"""The short form of `tests.page_campaign`: checks the content that is shown, and prints the frame times."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.page_campaign import measure


@pytest.mark.one_process("the page is the same on any of them")
def test_long_answer_and_long_chat_are_complete(
    browser: Browser, tmp_path: Path, figures: Callable[[str], None]
) -> None:
    for line in measure(browser, tmp_path, tokens=300, paces=[400], messages=120, words=0, answers=0):
        figures(line)
