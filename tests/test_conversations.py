"""/v1/conversations with OpenAI's Python client, which checks every response. A conversation is a session."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
import requests

from chatapi.api.openai.conversations.routes import LIST_BYTES
from chatapi.simulator import Gate, Simulator, scripts
from tests import schemas
from tests.openai_sdk import CALLED, MODEL, WEATHER, client, client_of, everything, service, simulator
from tests.server_process import KEY, OTHER_KEY, Serve, Service

__all__ = ["client", "service", "simulator"]  # fixtures


def user(*texts: str) -> Any:
    return [{"type": "message", "role": "user", "content": text} for text in texts]


def texts(items: Any) -> list[str]:
    return ["".join(part.text for part in item.content) for item in items if item.type == "message"]


def session_of(conversation_id: str) -> str:
    return "ses_" + conversation_id.removeprefix("conv_")


def test_a_conversation_is_created_read_changed_and_deleted(client: openai.OpenAI, service: Service) -> None:
    made = client.conversations.create(metadata={"topic": "demo"}, items=user("Hello"))
    assert made.id.startswith("conv_")
    assert client.conversations.retrieve(made.id) == made
    changed = client.conversations.update(made.id, metadata={"topic": "other"})
    assert (changed.id, changed.metadata) == (made.id, {"topic": "other"})
    raw = service.get(f"/v1/conversations/{made.id}", key=KEY).json()
    schemas.check("ConversationResource", raw)
    deleted = client.conversations.delete(made.id)
    assert (deleted.id, deleted.object, deleted.deleted) == (made.id, "conversation.deleted", True)
    schemas.check("DeletedConversationResource", deleted.model_dump())
    with pytest.raises(openai.NotFoundError) as caught:
        client.conversations.retrieve(made.id)
    assert caught.value.code == "conversation_not_found"


def test_an_empty_conversation_has_no_items(client: openai.OpenAI) -> None:
    made = client.conversations.create()
    assert made.metadata == {}
    assert list(client.conversations.items.list(made.id)) == []


def test_items_are_added_and_found(client: openai.OpenAI, service: Service) -> None:
    made = client.conversations.create()
    image: Any = {"type": "input_image", "image_url": "https://example.org/a.png", "detail": "high"}
    items: Any = [
        {"role": "user", "content": [{"type": "input_text", "text": "Look"}, image]},
        {"type": "reasoning", "id": "rs_theirs", "summary": [{"type": "summary_text", "text": "Hm."}]},
        {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "fine"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "It is fine.", "annotations": []}]},
    ]
    added = client.conversations.items.create(made.id, items=items)
    assert [item.type for item in added.data] == [
        "message", "reasoning", "function_call", "function_call_output", "message",
    ]  # fmt: skip
    assert "rs_theirs" not in [item.id for item in added.data], "a client's id is never an id of ours"
    listed = client.conversations.items.list(made.id, order="asc")
    assert listed.data == added.data
    for item in added.data:
        assert item.id is not None
        assert client.conversations.items.retrieve(item.id, conversation_id=made.id) == item
    schemas.check("ConversationItemList", service.get(f"/v1/conversations/{made.id}/items", key=KEY).json())


def test_each_added_message_is_an_item(client: openai.OpenAI) -> None:
    made = client.conversations.create()
    items: Any = [
        {"role": role, "content": text} for role, text in zip(("user", "assistant", "assistant"), "abc", strict=True)
    ]
    assert texts(client.conversations.items.create(made.id, items=items).data) == ["a", "b", "c"]


def test_a_response_to_a_conversation_is_stored_in_it(client: openai.OpenAI, simulator: Simulator) -> None:
    made = client.conversations.create(items=user("Hello"))
    simulator.script = everything()
    response = client.responses.create(model=MODEL, input="And now?", conversation=made.id, tools=[WEATHER])
    assert response.conversation is not None
    assert response.conversation.id == made.id
    items = client.conversations.items.list(made.id, order="asc").data
    assert [item.type for item in items] == [
        "message", "message", "reasoning", "message", "function_call", "function_call",
    ]  # fmt: skip
    assert [item.id for item in items[2:]] == [item.id for item in response.output]
    assert [(item.call_id, item.name, item.arguments) for item in items[4:]] == CALLED
    simulator.script = None
    more = client.responses.create(model=MODEL, input="Never mind.", conversation={"id": made.id})
    assert more.output_text
    sent = [message["content"] for message in simulator.requests[-1].body["messages"] if message["role"] == "user"]
    assert sent == ["Hello", "And now?", "Never mind."]


def test_items_are_paged_in_both_directions(client: openai.OpenAI, upstream: Simulator) -> None:
    made = client.conversations.create(items=user("0", "1", "2"))
    upstream.script = everything()
    client.responses.create(model=MODEL, input="3", conversation=made.id, tools=[WEATHER])
    whole = [item.id for item in client.conversations.items.list(made.id, order="asc", limit=100)]
    assert len(whole) == 8
    for limit in (1, 2, 3, 5, 8, 100):
        for order, wanted in (("asc", whole), ("desc", whole[::-1])):
            found: list[str | None] = []
            after: Any = openai.omit
            while True:
                page = client.conversations.items.list(made.id, limit=limit, order=order, after=after)
                found += [item.id for item in page.data]
                assert len(page.data) <= limit
                if not page.has_more:
                    break
                after = page.last_id
            assert found == wanted
    assert [item.id for item in client.conversations.items.list(made.id).data] == whole[::-1], "newest first"


def test_a_list_of_large_items_is_divided(client: openai.OpenAI) -> None:
    image = "data:image/png;base64," + "A" * LIST_BYTES
    made = client.conversations.create(items=user("first", "second"))
    client.conversations.items.create(
        made.id, items=[{"role": "user", "content": [{"type": "input_image", "image_url": image, "detail": "auto"}]}]
    )
    page = client.conversations.items.list(made.id)
    assert (len(page.data), page.has_more) == (1, True)
    rest = client.conversations.items.list(made.id, after=page.data[0].id)
    assert (texts(rest.data), rest.has_more) == (["second", "first"], False)


def test_references_to_many_images_are_too_large_together(serve: Serve) -> None:
    service = serve(CHATAPI_MAX_CONTEXT_BYTES="100000")
    image = {"type": "input_image", "image_url": "data:image/png;base64," + "A" * 60_000}
    items = [{"role": "user", "content": [image]}] * 2
    made = service.post("/v1/conversations", key=KEY, json={"items": items}).json()
    listed = service.get(f"/v1/conversations/{made['id']}/items", key=KEY).json()["data"]
    references = [{"type": "item_reference", "id": item["id"]} for item in listed]
    for count, status in ((1, 200), (2, 400)):
        body = {"items": references[:count]}
        answer = service.post(f"/v1/conversations/{made['id']}/items", key=KEY, json=body)
        assert answer.status_code == status
    assert "CHATAPI_MAX_CONTEXT_BYTES" in answer.text


def test_a_deleted_item_leaves_the_others_in_order(
    client: openai.OpenAI, simulator: Simulator, service: Service
) -> None:
    made = client.conversations.create(items=user("one", "two", "three"))
    ids = [item.id or "" for item in client.conversations.items.list(made.id, order="asc")]
    returned = client.conversations.items.delete(ids[1], conversation_id=made.id)
    assert returned == made
    assert texts(client.conversations.items.list(made.id, order="asc").data) == ["one", "three"]
    with pytest.raises(openai.NotFoundError) as caught:
        client.conversations.items.delete(ids[1], conversation_id=made.id)
    assert caught.value.code == "item_not_found"
    response = client.responses.create(model=MODEL, input="four", conversation=made.id)
    sent = [message["content"] for message in simulator.requests[-1].body["messages"]]
    assert sent == ["one", "three", "four"]
    answer = response.output[0].id or ""
    client.conversations.items.delete(answer, conversation_id=made.id)
    client.conversations.items.delete(ids[0], conversation_id=made.id)
    assert texts(client.conversations.items.list(made.id, order="asc").data) == ["three", "four"]
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)
    messages = service.messages(session_of(made.id), key=KEY)
    assert [message["parent_id"] for message in messages] == [None, messages[0]["id"]]
    session = service.get(f"/api/sessions/{session_of(made.id)}", key=KEY).json()
    assert (session["message_count"], session["head"]) == (2, messages[1]["id"])
    client.responses.create(model=MODEL, input="five", conversation=made.id)
    assert [one["content"] for one in simulator.requests[-1].body["messages"]] == ["three", "four", "five"]


def test_an_item_deleted_under_two_branches_keeps_both_branches(client: openai.OpenAI, simulator: Simulator) -> None:
    first = client.responses.create(model=MODEL, input="one")
    session = client.responses.with_raw_response.create(model=MODEL, input="two", previous_response_id=first.id)
    conversation = "conv_" + session.headers["x-session-id"].removeprefix("ses_")
    other = client.responses.create(model=MODEL, input="three", previous_response_id=first.id)
    client.conversations.items.delete(first.output[0].id or "", conversation_id=conversation)
    for previous, question in ((session.parse(), "two"), (other, "three")):
        client.responses.create(model=MODEL, input="on", previous_response_id=previous.id)
        sent = [one["content"] for one in simulator.requests[-1].body["messages"] if one["role"] == "user"]
        assert sent == ["one", question, "on"]


def test_no_item_is_deleted_or_added_while_an_answer_runs(
    client: openai.OpenAI, simulator: Simulator, gate: Gate
) -> None:
    made = client.conversations.create(items=user("one"))
    item = client.conversations.items.list(made.id).data[0].id or ""
    simulator.script = scripts.held(gate)
    client.responses.create(model=MODEL, input="two", conversation=made.id, background=True)
    with pytest.raises(openai.ConflictError) as caught:
        client.conversations.items.delete(item, conversation_id=made.id)
    assert caught.value.response.headers["x-should-retry"] == "false"
    with pytest.raises(openai.ConflictError):
        client.conversations.items.create(made.id, items=user("three"))
    assert gate.reached.wait(10), "the upstream was called, so the next test does not see this request"
    gate.open()


def test_concurrent_deletes_delete_each_item_once(client: openai.OpenAI) -> None:
    made = client.conversations.create(items=user(*"abcdefgh"))
    ids = [item.id or "" for item in client.conversations.items.list(made.id, order="asc")]

    def delete(item: str) -> bool:
        try:
            client.conversations.items.delete(item, conversation_id=made.id)
        except openai.NotFoundError:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        deleted = list(pool.map(delete, [*ids[1:7], *ids[1:7]]))
    assert sum(deleted) == 6
    assert texts(client.conversations.items.list(made.id, order="asc").data) == ["a", "h"]


def test_a_deleted_conversation_stops_its_running_answer(
    client: openai.OpenAI, simulator: Simulator, gate: Gate
) -> None:
    made = client.conversations.create()
    simulator.script = scripts.held(gate)
    response = client.responses.create(model=MODEL, input="Hi", conversation=made.id, background=True)
    assert gate.reached.wait(10)
    client.conversations.delete(made.id)
    assert simulator.requests[-1].left.wait(10)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)


def test_one_conversation_in_every_dialect(service: Service, simulator: Simulator, key: str) -> None:
    sent = requests.post(  # the seed's command
        f"{service.url}/api/chat",
        json={
            "developer_message": "You are a helpful assistant.",
            "user_message": "Hello, how are you?",
            "api_key": key,
        },
        timeout=30,
    )
    session = sent.headers["X-Session-ID"]
    conversation = "conv_" + session.removeprefix("ses_")
    with client_of(service, key) as client:
        response = client.responses.create(
            model=MODEL, input="Go on.", conversation=conversation, instructions="Be brief."
        )
        assert [(one["role"], one["content"]) for one in simulator.requests[-1].body["messages"]][:2] == [
            ("developer", "You are a helpful assistant."),
            ("developer", "Be brief."),
        ]
        items = client.conversations.items.list(conversation, order="asc").data
        said = ["Hello, how are you?", sent.text, "Go on.", response.output_text]
        assert texts(items) == said
        assert [message["content"] for message in service.messages(session, key=key)] == said
        assert [message["id"] for message in service.messages(session, key=key)] == [item.id for item in items]
        completed = client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Once more."}], extra_headers={"X-Session-ID": session}
        )
        said += ["Once more.", completed.choices[0].message.content or ""]
        assert texts(client.conversations.items.list(conversation, order="asc").data) == said
    assert [one["content"] for one in simulator.requests[-1].body["messages"]] == [
        "You are a helpful assistant.",
        *said[:-1],
    ]
    shown = service.get(f"/api/sessions/{session}", key=key).json()
    assert (shown["developer_message"], shown["message_count"]) == ("You are a helpful assistant.", 6)
    assert [one["session_id"] for one in service.get("/api/sessions", key=key).json()["data"]] == [session]


@pytest.mark.table
@pytest.mark.parametrize(
    ("method", "path", "body", "param"),
    [
        ("POST", "", {"items": "x"}, "items"),
        ("POST", "", {"items": user(*"x" * 21)}, "items"),
        ("POST", "", {"metadata": {"a": 1}}, "metadata.a"),
        ("POST", "", {"metadata": {"a" * 65: "x"}}, None),
        ("POST", "", {"something": 1}, "something"),
        ("POST", "", {"items": [{"type": "web_search_call"}]}, "items.0.type"),
        ("POST", "/{}", {}, "metadata"),
        ("POST", "/{}/items", {}, "items"),
        ("POST", "/{}/items", {"items": user(*"x" * 21)}, "items"),
        ("GET", "/{}/items?limit=101", None, "limit"),
        ("GET", "/{}/items?limit=0", None, "limit"),
        ("GET", "/{}/items?limit=x", None, "limit"),
        ("GET", "/{}/items?order=up", None, "order"),
        ("GET", "/{}/items?after=x", None, "after"),
        ("GET", "/{}/items?after=msg_0123456789012345678901234567890x", None, "after"),
    ],
)
def test_bad_input_is_named(
    client: openai.OpenAI, service: Service, method: str, path: str, body: Any, param: str | None
) -> None:
    made = client.conversations.create(items=user("Hello"))
    url = f"{service.url}/v1/conversations{path.format(made.id)}"
    answer = requests.request(method, url, json=body, headers={"Authorization": f"Bearer {KEY}"}, timeout=30)
    assert answer.status_code == 400, answer.text
    schemas.check("ErrorResponse", answer.json())
    if param is not None:
        assert answer.json()["error"]["param"] == param


def test_the_conversation_of_another_key_is_a_404(client: openai.OpenAI, service: Service) -> None:
    mine = client.conversations.create(items=user("Hello"))
    item = client.conversations.items.list(mine.id).data[0].id or ""
    never = mine.id[:-4] + ("AAAA" if not mine.id.endswith("AAAA") else "BBBB")
    for method, path, body in (
        ("GET", "/v1/conversations/{}", None),
        ("POST", "/v1/conversations/{}", {"metadata": {}}),
        ("DELETE", "/v1/conversations/{}", None),
        ("GET", "/v1/conversations/{}/items", None),
        ("GET", f"/v1/conversations/{{}}/items?after={item}", None),
        ("POST", "/v1/conversations/{}/items", {"items": user("x")}),
        ("GET", f"/v1/conversations/{{}}/items/{item}", None),
        ("DELETE", f"/v1/conversations/{{}}/items/{item}", None),
        ("POST", "/v1/responses", {"model": MODEL, "input": "x", "conversation": "{}"}),
    ):
        told = []
        for name in (mine.id, never, session_of(mine.id), "x"):
            sent: Any = {key: name if value == "{}" else value for key, value in body.items()} if body else None
            answer = requests.request(
                method,
                service.url + path.format(name),
                json=sent,
                headers={"Authorization": f"Bearer {OTHER_KEY}"},
                timeout=30,
            )
            assert answer.json()["error"]["code"] == "conversation_not_found"
            told.append((answer.status_code, answer.json()))
        assert told == [told[0]] * len(told)
        assert told[0][0] == 404
    assert texts(client.conversations.items.list(mine.id).data) == ["Hello"]
    assert service.get(f"/v1/conversations/{mine.id}").status_code == 401
    theirs = client_of(service, OTHER_KEY).conversations.create()
    answer = service.get(f"/v1/conversations/{theirs.id}/items/{item}", key=OTHER_KEY)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "item_not_found")
