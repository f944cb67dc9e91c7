"""The secret's file: whole or absent, however a first start ends."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from chatapi.auth.keys import load_secret


@pytest.mark.parametrize("call", ["fsync", "link"])
def test_a_start_that_is_killed_while_it_makes_the_secret_can_be_repeated(tmp_path: Path, call: str) -> None:
    path = tmp_path / "chat.db.secret"
    killed = multiprocessing.get_context("fork").Process(target=load_and_die_in, args=(path, call))
    killed.start()
    killed.join()
    assert killed.exitcode == 9
    secret = load_secret(path)
    assert load_secret(path) == secret
    assert path.stat().st_mode & 0o777 == 0o600


def load_and_die_in(path: Path, call: str) -> None:
    def die(*_: object, **__: object) -> None:
        os._exit(9)

    dying: Callable[..., None] = die
    setattr(os, call, dying)
    load_secret(path)


def test_servers_that_start_at_once_have_one_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "chat.db.secret"
    link = os.link

    def link_late(source: str, target: Path) -> None:
        monkeypatch.setattr(os, "link", link)
        first.append(load_secret(path))
        link(source, target)

    first: list[bytes] = []
    monkeypatch.setattr(os, "link", link_late)
    assert load_secret(path) == first[0]
    assert os.listdir(tmp_path) == [path.name]
