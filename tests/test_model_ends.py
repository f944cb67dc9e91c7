"""The end of the default model: known in time, and named with its remedy."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
import structlog

from chatapi.errors import UpstreamBroken, UpstreamError, UpstreamErrorBody, UpstreamModelNotFound
from chatapi.settings import Settings
from chatapi.upstream.model_ends import ANNOUNCED, DefaultModel, announced_end, listed_end, notice, today
from chatapi.upstream.providers import is_openai_itself
from tests.server_process import PROJECT, run_command

MODEL = "gpt-4.1-mini"
END = date(2027, 1, 14)
PRICES = json.loads((PROJECT / "chatapi/prices.example.json").read_text())["models"]


@pytest.mark.parametrize("model", [Settings().default_model, *PRICES])
def test_no_listed_model_is_past_its_end(model: str) -> None:
    end = announced_end(model)
    assert end is None or end > today(), f"{model} was shut down on {end}: list another model"


def test_a_snapshot_ends_with_its_model() -> None:
    assert announced_end(f"{MODEL}-2025-04-14") == announced_end(MODEL) == END
    assert announced_end("gpt-4o-2024-05-13") == ANNOUNCED["gpt-4o-2024-05-13"]
    assert announced_end("llama3.2") is None


@pytest.mark.parametrize(
    ("value", "end"),
    [
        ({"object": "list", "data": [{"id": "a"}, {"id": MODEL, "shutdown_date": "2027-01-14"}]}, END),
        ({"id": MODEL, "shutdown_date": "2027-01-14"}, END),
        ({"id": MODEL, "shutdown_date": None}, None),
        ({"id": MODEL, "shutdown_date": "soon"}, None),
        ({"id": MODEL, "shutdown_date": 7}, None),
        ({"data": [7, None, {"id": "other", "shutdown_date": "2027-01-14"}]}, None),
        (7, None),
    ],
)
def test_the_end_is_read_from_a_list_of_models(value: Any, end: date | None) -> None:
    assert listed_end(json.dumps(value).encode(), MODEL) == end
    assert listed_end(b"{", MODEL) is None


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (date(2026, 10, 1), None),
        (date(2026, 12, 1), "shuts down on 2027-01-14, in 44 days."),
        (date(2027, 1, 13), "in 1 day."),
        (date(2027, 1, 14), "was shut down on 2027-01-14."),
    ],
)
def test_the_notice_comes_in_time_and_names_the_setting(now: date, words: str | None) -> None:
    sentence = notice(MODEL, END, now)
    assert (sentence is None) is (words is None)
    if sentence is not None and words is not None:
        assert words in sentence
        assert "CHATAPI_DEFAULT_MODEL" in sentence


def on(day: date) -> Callable[[], date]:
    return lambda: day


def test_an_end_is_logged_at_the_start_and_when_a_list_tells_of_it() -> None:
    listed = json.dumps({"data": [{"id": "m", "shutdown_date": "2027-01-01"}]}).encode()
    with structlog.testing.capture_logs() as logs:
        DefaultModel(MODEL, announced=True, today=on(date(2026, 12, 1))).warn()
        model = DefaultModel("m", announced=True, today=on(date(2026, 12, 1)))
        model.warn()
        model.learn(listed)
        model.learn(listed)
    assert [(line["event"], line["shutdown_date"]) for line in logs] == [
        ("default model ends", "2027-01-14"),
        ("default model ends", "2027-01-01"),
    ]


def test_the_refusal_of_a_model_that_has_ended_says_so() -> None:
    error = UpstreamModelNotFound()
    error.said = UpstreamErrorBody(404, "No such model.", "invalid_request_error", None, "model_not_found")
    model = DefaultModel(MODEL, announced=True, today=on(END))
    explained = model.explain(MODEL, error)
    assert "CHATAPI_DEFAULT_MODEL" in explained.detail
    assert explained.said is not None
    assert explained.said.message.startswith("No such model. gpt-4.1-mini was shut down")
    others: list[tuple[str, UpstreamError]] = [("another", error), (MODEL, UpstreamBroken())]
    for name, other in others:
        assert model.explain(name, other) is other
    early = DefaultModel(MODEL, announced=True, today=on(date(2026, 12, 1)))
    assert early.explain(MODEL, error) is error


def test_only_openais_own_service_has_openais_dates() -> None:
    assert is_openai_itself("https://eu.api.openai.com/v1")
    assert not is_openai_itself("https://x.openai.azure.com/openai/v1")


def test_doctor_names_the_end_of_the_default_model(
    simulator: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chatapi.simulator import scripts

    simulator.script = scripts.json_body({"data": [{"id": MODEL, "shutdown_date": "2020-01-01"}]})
    done = run_command("doctor", cwd=tmp_path, settings={"OPENAI_BASE_URL": simulator.url})
    assert f"{MODEL} was shut down on 2020-01-01. Set CHATAPI_DEFAULT_MODEL" in done.stdout + done.stderr
