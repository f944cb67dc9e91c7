"""The environment of the tests has nothing of the user's that could change an outcome."""

from __future__ import annotations

import os
import time

import pytest

from tests.environment import CHOSEN, KEPT, KEPT_PREFIXES, leave_users_environment

FOREIGN = {
    "HTTP_PROXY": "http://127.0.0.1:1",
    "OPENAI_API_KEY": "sk-of-the-user",
    "DATABASE_URL": "postgresql://nobody@127.0.0.1/nothing",
    "PGHOST": "192.0.2.1",
    "GIT_DIR": "/nowhere",
    "LANG": "de_DE.UTF-8",
    "TZ": "Asia/Kathmandu",
    "COLUMNS": "40",
}


def test_these_tests_have_left_the_users_environment() -> None:
    assert [
        name for name in os.environ if name not in KEPT | CHOSEN.keys() and not name.startswith(KEPT_PREFIXES)
    ] == []
    assert time.tzname[0] == "UTC"


def test_variables_that_could_change_an_outcome_are_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy() | FOREIGN)
    users = leave_users_environment()
    assert users.items() >= FOREIGN.items()
    assert {name: os.environ.get(name) for name in FOREIGN} == dict.fromkeys(FOREIGN) | CHOSEN
    assert "PATH" in os.environ
