"""One conversation in every dialect: one session, one history."""

from __future__ import annotations

import subprocess

import pytest

from tests import node_clients
from tests.openai_clients import openai_client
from tests.server_process import Service

pytestmark = pytest.mark.needs_node

MODEL = "gpt-4.1-mini"
SESSION, CONVERSATION = "ses_", "conv_"


def curl(service: Service, text: str, key: str) -> str:
    """Run the seed's command with one more header; return the session id."""
    body = f'{{"developer_message": "You are a helpful assistant.", "user_message": "{text}", "api_key": "{key}"}}'
    line = ["curl", "-s", "-D", "-", "-X", "POST", f"{service.url}/api/chat"]
    ran = subprocess.run(
        [*line, "-H", "Content-Type: application/json", "-d", body], check=True, capture_output=True, text=True
    )
    headers = dict(one.split(": ", 1) for one in ran.stdout.split("\n\n")[0].splitlines()[1:])
    return headers["x-session-id"]


def complete(service: Service, session_id: str, text: str, key: str) -> None:
    with openai_client(f"{service.url}/v1", key, _strict_response_validation=True) as client:
        client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": text}],
            extra_headers={"X-Session-ID": session_id},
        )


def respond(service: Service, session_id: str, text: str, key: str) -> None:
    with openai_client(f"{service.url}/v1", key, _strict_response_validation=True) as client:
        conversation = CONVERSATION + session_id.removeprefix(SESSION)
        with client.responses.create(model=MODEL, input=text, conversation=conversation, stream=True) as events:
            assert [event.type for event in events][-1] == "response.completed"


def items_of(service: Service, session_id: str, key: str) -> list[str]:
    """Return the texts of the messages in OpenAI's Conversations."""
    with openai_client(f"{service.url}/v1", key, _strict_response_validation=True) as client:
        items = client.conversations.items.list(CONVERSATION + session_id.removeprefix(SESSION), order="asc")
        return [str(item.content[0].text) for item in items if item.type == "message"]


def use_chat(service: Service, session_id: str, text: str, key: str) -> str:
    """Send from a page with useChat; return the answer that it shows."""
    options = {"api": f"{service.url}/api/chat", "id": session_id, "headers": {"Authorization": f"Bearer {key}"}}
    with node_clients.NodeClient("chat.mjs", options) as page:
        state = page.do("send", message={"text": text})
    assert state["status"] == "ready", state["error"]
    return str(state["messages"][-1]["parts"][-1]["text"])


def test_a_conversation_in_every_dialect_is_one_history(service: Service, key: str) -> None:
    session_id = curl(service, "My name is Ada.", key)
    said = ["My name is Ada."]
    for go_on in (complete, respond):
        said.append(f"This is said by {go_on.__name__}.")
        go_on(service, session_id, said[-1], key)
    said.append("What is my name?")
    assert "Ada" in use_chat(service, session_id, said[-1], key)

    history = service.messages(session_id, key=key)
    assert items_of(service, session_id, key) == [message["content"] for message in history]
    assert [message["content"] for message in history if message["role"] == "user"] == said
    assert [message["role"] for message in history] == ["user", "assistant"] * len(said)
    assert all(message["status"] == "completed" for message in history)
    assert [message["parent_id"] for message in history] == [None, *[message["id"] for message in history[:-1]]]
    (session,) = service.get("/api/sessions", key=key).json()["data"]
    assert (session["session_id"], session["message_count"]) == (session_id, len(history))
    assert session["developer_message"] == "You are a helpful assistant."
