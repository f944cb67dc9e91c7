"""Images and files in a chat message, in the seed's dialect."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from chatapi.simulator import Simulator
from tests.server_process import KEY, Serve, Service
from tests.test_chat import session_of

PIXEL = "data:image/png;base64,iVBORw0KGgo="
PAPER = "data:application/pdf;base64,JVBERi0="
IMAGE = {"type": "image", "url": PIXEL, "detail": "low"}
FILE = {"type": "file", "filename": "Über uns.pdf", "data": PAPER}
IMAGE_UPSTREAM = {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}}
FILE_UPSTREAM = {"type": "file", "file": {"filename": "Über uns.pdf", "file_data": PAPER}}
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def server(serve_module: Serve) -> Service:
    return serve_module(CHATAPI_RATE_LIMIT="0")


def sent(server: Service, *attachments: Any, **more: Any) -> requests.Response:
    """POST /api/chat with these fields; return the response, read to its end. By default: a new session and no text."""
    body = {"developer_message": "Be brief.", "attachments": list(attachments), **more}
    return server.post("/api/chat", key=KEY, json=body)


def content(upstream: Simulator, message: int = -1) -> Any:
    return upstream.requests[-1].body["messages"][message]["content"]


def test_images_and_files_are_sent_upstream_with_their_message_and_stored(server: Service, upstream: Simulator) -> None:
    session_id = session_of(sent(server, IMAGE, FILE, user_message="What is this?"))
    asked = [FILE_UPSTREAM, {"type": "text", "text": "What is this?"}, IMAGE_UPSTREAM]
    assert content(upstream) == asked
    question, _ = server.messages(session_id)
    assert question["content"] == "What is this?"
    assert question["parts"] == [FILE, {"type": "text", "text": "What is this?"}, IMAGE]
    with server.send("And now?", session_id=session_id) as response:
        assert response.text
    assert content(upstream, 1) == asked
    assert content(upstream) == "And now?"
    assert sent(server, IMAGE, session_id=session_id, replace=question["id"], user_message="Look").text
    assert content(upstream) == [{"type": "text", "text": "Look"}, IMAGE_UPSTREAM], (
        "the replaced answer is not sent again"
    )


def test_an_image_without_text_is_accepted_and_names_the_session(server: Service, upstream: Simulator) -> None:
    for more in ({}, {"user_message": ""}):
        session_id = session_of(sent(server, IMAGE, **more))
        assert content(upstream) == [IMAGE_UPSTREAM]
        assert server.get(f"/api/sessions/{session_id}").json()["title"] == "Image"


def test_the_url_of_an_image_is_passed_upstream_and_not_fetched(server: Service, upstream: Simulator) -> None:
    asked = len(upstream.requests)
    there = {"type": "image", "url": f"{upstream.url}/image.png"}
    assert sent(server, there, user_message="What is this?").status_code == 200
    assert content(upstream)[1]["image_url"] == {"url": there["url"]}
    assert len(upstream.requests) == asked + 1


@pytest.mark.one_process("a body is read by one replica alone")
def test_only_a_body_with_attachments_may_have_the_size_of_media(server: Service, upstream: Simulator) -> None:
    large = {"type": "image", "url": "data:image/png;base64," + "A" * 3 * MIB}
    assert sent(server, large, user_message="What is this?").status_code == 200
    assert content(upstream)[1]["image_url"]["url"] == large["url"]
    text = "x" * 2 * MIB
    others = [
        sent(server, {**large, "url": PIXEL + "A" * 9 * MIB}),
        server.send(text),
        sent(server, user_message=text),
    ]
    codes = [(other.status_code, other.json()["code"]) for other in others]
    assert codes == [(413, "body_too_large")] * 2 + [(422, "invalid_request")]
    long = sent(server, IMAGE, user_message=text)
    assert (long.status_code, long.json()["errors"][0]["field"]) == (422, "user_message"), "text has a limit of its own"


@pytest.mark.one_process("it is refused before there is a store")
@pytest.mark.parametrize(
    "attachments",
    [
        "image",
        [None],
        [{}],
        [{"type": "example"}],
        [{**IMAGE, "No field: example": "example"}],
        [{"type": "image"}],
        [{**IMAGE, "size": 1}],
        [{**IMAGE, "detail": "a b"}],
        [{"type": "file", "data": PAPER}],
        [{**FILE, "filename": ""}],
        [{**FILE, "filename": "a" * 256}],
        *(
            [{**IMAGE, "url": url}]
            for url in (
                "",
                "javascript:alert(1)",
                "file:///etc/passwd",
                "data:text/html;base64,PGI+",
                "data:image/png,abc",
                "data:image/png;base64,",
                "data:image/png;base64,é",
                "data:image/png;base64,\0",
                "data:image/" + "x" * 300 + ";base64,AAAA",
                "https://" + "x" * 8192,
            )
        ),
        *([{**FILE, "data": data}] for data in ("", "JVBERi0=", "https://example.org/a.pdf", "data:;base64", 5)),
        [IMAGE] * 17,
    ],
    ids=range(27),
)
def test_an_invalid_attachment_is_refused_by_name_and_not_echoed(
    server: Service, upstream: Simulator, attachments: Any
) -> None:
    asked = len(upstream.requests)
    refused = server.post(
        "/api/chat", key=KEY, json={"developer_message": "d", "user_message": "u", "attachments": attachments}
    )
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
    assert all(error["field"].startswith("attachments") for error in refused.json()["errors"])
    assert "example" not in refused.text
    assert len(upstream.requests) == asked


@pytest.mark.one_process("it is refused before there is a store")
def test_without_an_attachment_a_text_is_required(server: Service) -> None:
    missing = server.post("/api/chat", key=KEY, json={"developer_message": "d"}).json()
    assert missing["errors"] == [{"field": "user_message", "message": "This field is required."}]
    nothings: list[dict[str, Any]] = [{"attachments": []}, {"attachments": None}]
    for nothing in nothings:
        refused = server.post("/api/chat", key=KEY, json={"developer_message": "d", **nothing})
        assert refused.json()["errors"] == missing["errors"]


def test_a_regenerated_answer_needs_no_attachments(server: Service) -> None:
    session_id = session_of(sent(server, IMAGE, user_message="What is this?"))
    answer = server.messages(session_id)[-1]
    refused = sent(server, IMAGE, session_id=session_id, replace=answer["id"])
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "attachments")
    assert sent(server, session_id=session_id, replace=answer["id"]).text
