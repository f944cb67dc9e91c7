"""Stored chat completions with OpenAI's client: listed, filtered, changed, read with their messages, and deleted."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import openai
import pytest

from chatapi.simulator import Simulator
from tests.server_process import Service, fresh_key

MODEL = "gpt-4.1-mini"
Clients = Callable[[Service, str], Any]


def store(sdk: openai.OpenAI, text: str, model: str = MODEL, **more: Any) -> Any:
    messages: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]
    return sdk.chat.completions.create(model=model, messages=messages, store=True, **more)


def test_stored_completions_are_listed_by_model_and_metadata(
    shared: Service, shared_simulator: Simulator, key: str, openai_client: Clients
) -> None:
    sdk = openai_client(shared, key)
    tricky = {"a": 'x","b":"1', "b%": "_"}
    first = store(sdk, "one", metadata={"topic": "a", "b": "1"})
    assert {"store", "metadata"}.isdisjoint(shared_simulator.requests[-1].body), "it is stored here, not there"
    second = store(sdk, "two", "gpt-4o-mini", metadata=tricky)
    (third,) = {chunk.id for chunk in store(sdk, "three", metadata={"topic": "a"}, stream=True)}
    sdk.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "stateless"}])
    store(openai_client(shared, fresh_key("another")), "of another key")
    listed = sdk.chat.completions.list()
    assert [one.choices[0].message.content for one in listed.data][:1] == [first.choices[0].message.content]
    names = [one.id for one in listed.data]
    assert names == [first.id, second.id, third]
    found: list[tuple[dict[str, Any], list[str]]] = [
        ({"limit": 1}, names),
        ({"limit": 2, "order": "desc"}, names[::-1]),
        ({"after": names[0]}, names[1:]),
        ({"model": "gpt-4o-mini"}, [second.id]),
        ({"metadata": {"topic": "a"}}, [names[0], names[2]]),
        ({"metadata": {"topic": "a", "b": "1"}}, [first.id]),
        ({"metadata": tricky}, [second.id]),
        ({"metadata": {"b": "2"}}, []),
    ]
    for query, expected in found:
        assert [one.id for one in sdk.chat.completions.list(**query)] == expected, query


def test_a_stored_completion_is_read_changed_and_deleted(shared: Service, key: str, openai_client: Clients) -> None:
    sdk = openai_client(shared, key)
    image: Any = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    question: Any = [{"type": "text", "text": "Look"}, image]
    made = store(sdk, question, metadata={"topic": "a"})
    completions: Any = sdk.chat.completions
    assert completions.retrieve(made.id).metadata == {"topic": "a"}
    changed = completions.update(made.id, metadata={"topic": "b"})
    assert changed.metadata == completions.retrieve(made.id).metadata == {"topic": "b"}
    assert changed.choices[0].message.content == made.choices[0].message.content
    assert list(completions.list(metadata={"topic": "a"})) == []
    assert [one.id for one in completions.list(metadata={"topic": "b"})] == [made.id]
    messages = completions.messages.list(made.id).data
    assert [(one.role, one.content) for one in messages] == [("developer", "Be brief."), ("user", None)]
    assert [part.type for part in messages[1].content_parts] == ["text", "image_url"]
    assert [one.id for one in completions.messages.list(made.id, limit=1)] == [one.id for one in messages]
    assert [one.id for one in completions.messages.list(made.id, order="desc")] == [messages[1].id, messages[0].id]
    other = openai_client(shared, fresh_key("another")).chat.completions
    for method in (other.retrieve, partial(other.update, metadata={}), other.delete, other.messages.list):
        with pytest.raises(openai.NotFoundError):
            method(made.id)
    response = sdk.responses.create(model=MODEL, input="Hi")
    with pytest.raises(openai.NotFoundError):
        completions.update(response.id.replace("resp_", "chatcmpl-"), metadata={})
    assert completions.delete(made.id).deleted
    assert list(completions.list()) == []
    with pytest.raises(openai.NotFoundError):
        completions.retrieve(made.id)


@pytest.mark.parametrize(
    ("method", "path", "body", "named"),
    [
        ("POST", "", {"store": "yes"}, "store"),
        ("POST", "", {"store": True, "n": 2}, "n"),
        ("POST", "", {"store": True, "if_busy": "queue"}, "if_busy"),
        ("POST", "", {"store": True, "metadata": {"a": 1}}, "metadata.a"),
        ("POST", "/chatcmpl-x", {"metadata": {"a": "b" * 513}}, "metadata.a"),
        ("POST", "/chatcmpl-x", {"model": MODEL}, "metadata"),
        ("GET", "?metadata=a", None, "metadata"),
        ("GET", "?metadata[a][b]=c", None, "metadata"),
        ("GET", "?limit=101", None, "limit"),
        ("GET", "?order=up", None, "order"),
    ],
)
@pytest.mark.table
def test_invalid_values_are_named(
    shared: Service, key: str, method: str, path: str, body: dict[str, Any] | None, named: str
) -> None:
    whole = None if body is None else {"messages": [{"role": "user", "content": "Hi"}], "model": MODEL} | body
    whole = body if path else whole
    ask = shared.get if method == "GET" else shared.post
    refused = ask(f"/v1/chat/completions{path}", json=whole, key=key)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == named
