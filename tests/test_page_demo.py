"""`./run demo`, to the first answer, and to the pictures in the README."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from scripts.pictures import FOLDER, PICTURES, demo
from tests.browser import Visitor
from tests.person import Person
from tests.server_process import PROJECT

pytestmark = pytest.mark.one_process("the page is the same on any of them")


def test_from_the_first_run_to_the_first_answer_is_two_clicks(visitor: Visitor) -> None:
    with demo() as served:
        person = Person(visitor, served)
        expect(person.page.get_by_text("a simulator answers, not a model")).to_be_visible()
        person.press("Start chatting")
        person.press("Count to 100")
        person.sees_answer(" ".join(map(str, range(1, 101))))
        expect(person.page.get_by_text("simulator", exact=True)).to_be_visible()
        expect(person.answers.locator(".figures")).to_contain_text("$0.0")


def test_the_pictures_that_the_readme_shows_are_those_that_the_script_makes() -> None:
    shown = set(re.findall(r"docs/pictures/(\w+)\.png", (PROJECT / "README.md").read_text()))
    assert shown == set(PICTURES) == {path.stem for path in FOLDER.iterdir()}
