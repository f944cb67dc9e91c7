"""Several upstreams: which one answers, with whose key, and what callers see of it (docs/routing.md)."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
import requests

from chatapi.simulator import Cut, Gate, ReceivedRequest, Script, Send, Simulator, refuse, running, scripts
from chatapi.simulator.demo import Demo
from chatapi.simulator.response_events import ENCRYPTED, Events
from tests.openai_clients import openai_client
from tests.server_process import KEY, OTHER_KEY, SECRETS, Serve, Service

pytestmark = pytest.mark.one_process("nothing of it is stored or shared")

OWN_KEY = "own-secret-key-of-the-operator-1"
SPARE_KEY = "spare-secret-key-of-the-operator"
UPSTREAMS = ("main", "own", "spare", "local", "weak")

FILE = """
passthrough_upstream = "own"
callers_file = "callers.txt"

[upstreams.main]  # takes the callers' keys
base_url = "{main}"
prefix = "main/"

[upstreams.own]
base_url = "{own}"
api = "chat"
key_env = "KEY_OF_OWN"
key_header = "api-key"
headers = {{ X-Title = "chat" }}
rejected_fields = ["stream_options", "max_completion_tokens", "seed"]
retries = 0

[upstreams.spare]
base_url = "{spare}"
api = "responses"
key_file = "spare.key"
retries = 0

[upstreams.local]
base_url = "{local}"
key = "none"
prefix = "local/"
developer_role = "system"
retries = 0

[upstreams.weak]
base_url = "{weak}"
key = "none"
retries = 0
max_running = 1
first_token_seconds = 0.5

[models.weak]
upstream = "weak"
model = "gpt-4.1-mini"
listed = false

[models.backed]
upstream = "weak"
model = "gpt-4.1-mini"
fallback = ["big-spare"]
listed = false

[models.big]
upstream = "own"
model = "gpt-4.1"
aliases = ["grande"]
fallback = ["big-spare"]

[models.big-spare]
upstream = "spare"
model = "gpt-4o"
listed = false

[models.small]
upstream = "own"
model = "gpt-4.1-mini"

[models.twin]
upstream = ["own", "local"]
model = "gpt-4.1-mini"
"""


@pytest.fixture(scope="module")
def upstreams() -> Iterator[Mapping[str, Simulator]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(running(Simulator())) for name in UPSTREAMS}


@pytest.fixture(scope="module")
def service(
    serve_module: Serve, upstreams: Mapping[str, Simulator], tmp_path_factory: pytest.TempPathFactory
) -> Service:
    folder = tmp_path_factory.mktemp("upstreams")
    file = folder / "upstreams.toml"
    file.write_text(FILE.format(**{name: one.url for name, one in upstreams.items()}))
    (folder / "spare.key").write_text(SPARE_KEY + "\n")
    listed = hashlib.sha256(KEY.encode()).hexdigest()
    (folder / "callers.txt").write_text(f"# the team\nsha256:{listed}\n")
    SECRETS.extend((OWN_KEY, SPARE_KEY))
    return serve_module(
        CHATAPI_UPSTREAMS=str(file),
        OPENAI_BASE_URL="",
        KEY_OF_OWN=OWN_KEY,
        CHATAPI_DEFAULT_MODEL="main/gpt-4.1-mini",
        CHATAPI_METRICS="on",
        CHATAPI_RATE_LIMIT="0",
    )


DEMO = Demo(0)


def answer_without_bearer(request: ReceivedRequest) -> Script:
    """Answer as the demo does, for upstreams whose key is in another header, or which need none."""
    return DEMO(replace(request, headers={**request.headers, "Authorization": f"Bearer {KEY}"}))


@pytest.fixture(autouse=True)
def answer_well(upstreams: Mapping[str, Simulator]) -> None:
    upstreams["main"].script = upstreams["spare"].script = None
    for name in ("own", "local", "weak"):
        upstreams[name].script = answer_without_bearer


@pytest.fixture
def sent(upstreams: Mapping[str, Simulator]) -> Callable[[], dict[str, list[Any]]]:
    """Return the requests that each upstream got since the test began, of those that got some."""
    before = {name: len(upstream.requests) for name, upstream in upstreams.items()}

    def since() -> dict[str, list[Any]]:
        found = {name: upstream.requests[before[name] :] for name, upstream in upstreams.items()}
        return {name: requests for name, requests in found.items() if requests}

    return since


Sent = Callable[[], dict[str, list[Any]]]


def ask(service: Service, model: str, key: str = KEY, **more: Any) -> requests.Response:
    return service.send("Hi", key=key, model=model, **more)


# Whose key


def keys_in(request: Any) -> set[str]:
    """Return the keys in a request, wherever they are."""
    whole = json.dumps(dict(request.headers)) + request.query + request.raw.decode()
    return {key for key in (KEY, OTHER_KEY, OWN_KEY, SPARE_KEY) if key in whole}


@pytest.mark.parametrize(
    ("model", "answering", "expected"),
    [
        ("main/gpt-5.4", "main", {KEY}),
        ("big", "own", {OWN_KEY}),
        ("grande", "own", {OWN_KEY}),
        ("big-spare", "spare", {SPARE_KEY}),
        ("local/gpt-4.1-mini", "local", set()),
    ],
)
def test_each_upstream_gets_the_key_that_is_meant_for_it_and_no_other(
    service: Service, sent: Sent, model: str, answering: str, expected: set[str]
) -> None:
    client = openai_client(f"{service.url}/v1", KEY, max_retries=0)
    response = ask(service, model)
    assert response.status_code == 200, response.text
    assert response.headers["X-Upstream-Name"] == answering
    assert response.text
    messages = service.messages(response.headers["X-Session-ID"], key=KEY)
    assert [message.get("upstream") for message in messages] == [None, answering]
    for stream in (True, False):
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hi"}], stream=stream)
    client.responses.create(model=model, input="Hi", store=False)
    client.models.retrieve(model)
    assert sent().keys() == {answering}
    assert {frozenset(keys_in(request)) for request in sent()[answering]} == {frozenset(expected)}
    if answering == "own":
        assert {request.headers["api-key"] for request in sent()["own"]} == {OWN_KEY}
        assert {request.headers["X-Title"] for request in sent()["own"]} == {"chat"}
        assert not any("Authorization" in request.headers for request in sent()["own"])


@pytest.mark.parametrize("model", ["big", "twin", "local/gpt-4.1-mini"])
def test_a_caller_who_is_not_listed_spends_no_key_of_the_operator(service: Service, sent: Sent, model: str) -> None:
    stateless = service.post(
        "/v1/chat/completions", key=OTHER_KEY, json={"model": model, "messages": [{"role": "user", "content": "Hi"}]}
    )
    assert [ask(service, model, OTHER_KEY).status_code, stateless.status_code] == [401, 401]
    assert service.post("/v1/responses", key=OTHER_KEY, json={"model": model, "input": "Hi"}).status_code == 401
    assert service.get(f"/v1/models/{model}", key=OTHER_KEY).status_code == 401
    assert sent() == {}
    assert ask(service, "main/gpt-4.1-mini", OTHER_KEY).status_code == 200  # with its own key
    assert {one["id"] for one in service.get("/v1/models", key=OTHER_KEY).json()["data"]}.isdisjoint({"big", "twin"})
    assert all(keys_in(request) == {OTHER_KEY} for request in sent()["main"])


def test_a_key_of_the_operator_that_is_refused_is_not_the_callers_fault(
    service: Service, upstreams: Mapping[str, Simulator]
) -> None:
    upstreams["own"].script = refuse(401, message=f"Incorrect API key provided: {OWN_KEY}")
    for response in (
        ask(service, "small"),
        service.post("/v1/chat/completions", key=KEY, json={"model": "small", "messages": []}),
    ):
        assert response.status_code == 502
        assert "The operator has to replace it" in response.text
        assert OWN_KEY not in response.text
    assert service.wait_for_log("generation", error="upstream_broken", upstream="own")


def test_paths_that_are_passed_on_reach_no_shared_objects(service: Service, sent: Sent) -> None:
    body = {"model": "text-embedding-3-small", "input": "Hi"}
    headers = {"OpenAI-Organization": "org-1", "OpenAI-Beta": "a=b", "Idempotency-Key": "mine"}
    assert service.post("/v1/embeddings", key=KEY, json=body, headers=headers).status_code == 200
    (request,) = sent()["own"]
    assert keys_in(request) == {OWN_KEY}
    assert request.body == body
    assert request.headers["OpenAI-Beta"] == "a=b"
    assert {"OpenAI-Organization", "Idempotency-Key"}.isdisjoint(request.headers)
    assert service.post("/v1/embeddings", key=OTHER_KEY, json=body).status_code == 401
    for method, path in (("GET", "files"), ("DELETE", "files/file-1"), ("POST", "batches"), ("GET", "containers")):
        refused = service._request(method, f"/v1/{path}", KEY)
        assert refused.status_code == 404
        assert "belong to an account" in refused.json()["error"]["message"]
    assert len(sent()["own"]) == 1


def test_the_list_of_models_is_for_callers_whose_key_is_accepted_somewhere(
    service: Service, upstreams: Mapping[str, Simulator]
) -> None:
    upstreams["main"].script = refuse(401)
    listed = service.get("/v1/models", key=KEY)  # a caller of the file needs no key of that upstream
    assert {"big", "local/gpt-4.1"} <= {one["id"] for one in listed.json()["data"]}
    assert service.get("/v1/models", key=OTHER_KEY).status_code == 401


def test_the_key_test_knows_the_callers_of_the_file(service: Service, sent: Sent) -> None:
    assert service.post("/api/test-key", json={"api_key": KEY}).json()["valid"]
    assert sent() == {}
    assert service.post("/api/test-key", json={"api_key": OTHER_KEY}).json()["valid"]
    assert [keys_in(request) for request in sent()["main"]] == [{OTHER_KEY}]  # it may use that one


# Requests


def test_a_request_is_written_as_its_upstream_takes_it(service: Service, sent: Sent) -> None:
    assert ask(service, "big", max_completion_tokens=5).status_code == 200
    client = openai_client(f"{service.url}/v1", KEY, max_retries=0)
    client.chat.completions.create(
        model="grande",
        messages=[{"role": "user", "content": "Hi"}],
        max_completion_tokens=5,
        stream=True,
        stream_options={"include_usage": True},
    )
    for request in sent()["own"]:
        assert request.body["model"] == "gpt-4.1"
        assert request.body["max_tokens"] == 5
        assert request.body.keys().isdisjoint({"max_completion_tokens", "stream_options"})
    assert ask(service, "local/gpt-4.1-mini").status_code == 200
    assert sent()["local"][0].body["messages"][0]["role"] == "system"


def test_a_field_that_the_upstream_rejects_is_refused_by_name(service: Service, sent: Sent) -> None:
    body = {"model": "small", "messages": [{"role": "user", "content": "Hi"}], "seed": 1}
    refused = service.post("/v1/chat/completions", key=KEY, json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "seed")
    assert ask(service, "small", seed=1).status_code == 400
    hosted = {"model": "small", "input": "Hi", "tools": [{"type": "web_search"}]}
    refused = service.post("/v1/responses", key=KEY, json=hosted)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "unsupported_by_upstream")
    assert sent() == {}
    assert service.post("/v1/chat/completions", key=KEY, json={**body, "model": "twin"}).status_code == 200
    assert sent().keys() == {"local"}


def test_an_unknown_model_is_a_404_that_lists_the_models_in_each_dialect(service: Service, sent: Sent) -> None:
    sentence = "This server has no such model. It has: big, small, twin, main/…, local/…."
    chat = {"model": "none", "messages": [{"role": "user", "content": "Hi"}]}
    ui = {
        "id": "a",
        "trigger": "submit-message",
        "model": "none",
        "messages": [{"id": "1", "role": "user", "parts": [{"type": "text", "text": "Hi"}]}],
    }
    for path, body in (
        ("/v1/chat/completions", chat),
        ("/v1/chat/completions", chat | {"metadata": {"session_id": "new"}}),
        ("/v1/responses", {"model": "none", "input": "Hi"}),
        ("/v1/responses", {"model": "none", "input": "Hi", "store": False}),
    ):
        refused = service.post(path, key=KEY, json=body)
        error = {"message": sentence, "type": "invalid_request_error", "param": "model", "code": "model_not_found"}
        assert (refused.status_code, refused.json()) == (404, {"error": error})
    refused = ask(service, "none")
    assert (refused.status_code, refused.json()["detail"], refused.json()["code"]) == (404, sentence, "model_not_found")
    assert "X-Session-ID" not in refused.headers  # nothing is stored
    assert "It has: main/…." in ask(service, "none", OTHER_KEY).json()["detail"]  # the others are not for this caller
    refused = service.post("/api/chat", key=KEY, json=ui)
    assert (refused.status_code, refused.text) == (404, sentence), refused.text
    assert service.get("/v1/models/none", key=KEY).status_code == 404
    assert sent() == {}


@pytest.mark.parametrize("path", ["/v1/responses/compact", "/v1/responses/input_tokens"])
def test_an_operation_of_responses_goes_to_an_upstream_that_has_it(service: Service, sent: Sent, path: str) -> None:
    seen = len(service.log)
    done = service.post(path, key=KEY, json={"model": "big", "input": "Hi"})  # the first upstream has no Responses
    assert done.status_code == 200, done.text
    (request,) = sent()["spare"]
    assert (request.path, request.body["model"], keys_in(request)) == (path, "gpt-4o", {SPARE_KEY})
    refused = service.post(path, key=KEY, json={"model": "small", "input": "Hi"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "unsupported_by_upstream")
    assert "api of the upstream own=responses" in refused.text, "the setting is refused beside the file"
    assert service.post(path, key=OTHER_KEY, json={"model": "big", "input": "Hi"}).status_code == 401
    assert {name: len(requests) for name, requests in sent().items()} == {"spare": 1}
    service.wait_for_log("request", seen=seen, status=401)
    assert not [line for line in service.log[seen:] if "upstream fallback" in line], "the first one did not fail"


# Failures


def test_a_failure_before_the_first_text_leads_to_the_next_upstream(
    service: Service, upstreams: Mapping[str, Simulator], sent: Sent
) -> None:
    chat = {"model": "big", "messages": [{"role": "user", "content": "Hi"}]}
    assert ask(service, "big-spare").text  # the service learns which fields this model rejects
    asked = len(sent()["spare"])
    for script in (
        refuse(429, message="Slow down."),
        scripts.error_frame("", scripts.SERVER_ERROR),
        refuse(404, message="No such model", code="model_not_found"),
    ):
        upstreams["own"].script = script
        response = ask(service, "big")
        assert (response.status_code, response.headers["X-Upstream-Name"]) == (200, "spare")
        assert response.text
    assert service.wait_for_log("upstream fallback", upstream="own", to="spare", code="upstream_rate_limited")
    assert service.wait_for_log("generation", model="big", upstream="spare", status="completed")
    upstreams["own"].script = refuse(400, message="Not like this.")
    assert ask(service, "big").status_code == 400  # of the caller's request: another upstream is not asked
    assert service.post("/v1/chat/completions", key=KEY, json=chat).status_code == 400
    assert len(sent()["spare"]) == asked + 3


def test_a_failure_after_the_first_text_leads_nowhere(
    service: Service, upstreams: Mapping[str, Simulator], sent: Sent
) -> None:
    upstreams["own"].script = scripts.cut_after()
    with pytest.raises(requests.RequestException):
        assert ask(service, "big").text
    assert sent().keys() == {"own"}


def test_an_upstream_has_as_many_requests_as_it_may_and_a_limited_time(
    service: Service, upstreams: Mapping[str, Simulator], gate: Gate, sent: Sent
) -> None:
    upstreams["weak"].script = scripts.held(gate)
    held = ask(service, "weak")
    assert held.status_code == 200
    chat = {"model": "weak", "messages": [{"role": "user", "content": "Hi"}]}
    for refused in (ask(service, "weak"), service.post("/v1/chat/completions", key=KEY, json=chat)):
        assert (refused.status_code, int(refused.headers["Retry-After"])) == (503, 1)
        assert "has 1 running requests, which is its limit" in refused.text
    assert ask(service, "backed").headers["X-Upstream-Name"] == "spare"
    gate.open()
    assert held.text
    upstreams["weak"].script = answer_without_bearer
    passed_on = service.post("/v1/chat/completions", key=KEY, json=chat | {"stream": True})
    assert passed_on.headers["X-Upstream-Name"] == "weak"
    released = time.monotonic() + 10  # a moment after its client has all of it
    while ask(service, "backed").headers["X-Upstream-Name"] != "weak":
        assert time.monotonic() < released
    upstreams["weak"].script = scripts.heartbeats_only(count=100)
    assert ask(service, "backed").headers["X-Upstream-Name"] == "spare"
    assert service.wait_for_log("upstream fallback", code="upstream_timeout", upstream="weak")


def test_an_upstream_that_keeps_failing_is_not_asked(
    service: Service, upstreams: Mapping[str, Simulator], sent: Sent
) -> None:
    unreadable = scripts.event_stream(Send(b"data: {broken\n\n"))
    for script, status in ((refuse(500), 503), (unreadable, 502)):  # may be about one request: they never count
        upstreams["weak"].script = script
        assert [ask(service, "weak").status_code for _ in range(6)] == [status] * 6
    assert len(sent()["weak"]) == 12
    reset = scripts.cut_before_headers()
    for script in (refuse(503), refuse(503), reset, reset, scripts.event_stream(Cut())):
        upstreams["weak"].script = script
        failed = ask(service, "weak")
        assert failed.status_code in (502, 503)
        assert "has failed repeatedly" not in failed.json()["detail"]
    refused = ask(service, "weak")
    assert "has failed repeatedly" in refused.json()["detail"]
    assert int(refused.headers["Retry-After"]) > 10
    assert len(sent()["weak"]) == 17
    assert ask(service, "backed").headers["X-Upstream-Name"] == "spare"
    assert service.wait_for_log("upstream out of order", upstream="weak", seconds=15)
    metrics = service.get("/metrics").text
    assert 'chatapi_upstream_out_of_order{upstream="weak"} 1' in metrics
    assert 'chatapi_upstream_out_of_order{upstream="own"} 0' in metrics
    assert 'chatapi_upstream_fallbacks_total{to="spare",upstream="weak"}' in metrics


# Conversations


PICTURE = "data:image/png;base64,iVBORw0KGgo="
DRAWN = {"id": "ig_1", "type": "image_generation_call", "status": "completed", "result": "iVBORw0KGgo="}


def drawing() -> Script:
    """Return an answer of Responses with encrypted reasoning, an image and a text."""
    events = Events()
    frames = [events.begin(), *events.reasoning(["Hm."]), events.added(DRAWN), events.done(DRAWN)]
    return scripts.event_stream(*map(Send, [*frames, *events.message(["It rains."]), events.end()]))


def kinds(request: ReceivedRequest) -> list[str]:
    return [item.get("role", item.get("type")) for item in request.body["input"]]


def test_a_conversation_that_changes_its_upstream_and_its_api_keeps_its_history(
    service: Service, upstreams: Mapping[str, Simulator], sent: Sent
) -> None:
    client = openai_client(f"{service.url}/v1", KEY, max_retries=0)
    seen: Any = [{"type": "input_text", "text": "Weather?"}, {"type": "input_image", "image_url": PICTURE}]
    call: Any = {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": '{"city":"Oslo"}'}
    result: Any = {"type": "function_call_output", "call_id": "call_1", "output": "rain"}
    turns = [client.responses.create(model="big", input=[{"role": "user", "content": seen}, call, result])]

    def go_on(model: str, **more: Any) -> Any:
        turns.append(
            client.responses.create(model=model, input="Sure?", previous_response_id=turns[-1].id, store=True, **more)
        )

    # chat completions, Responses, chat completions, Responses again, and Responses of another upstream
    upstreams["spare"].script = drawing()
    tool: Any = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
    for model, more in (
        ("big-spare", {}),
        ("main/gpt-4.1", {}),
        ("big-spare", {}),
        ("main/gpt-5.4", {"tools": [tool]}),
    ):
        go_on(model, **more)
    (own,), (second, fourth), (third, refused, fifth) = (sent()[name] for name in ("own", "spare", "main"))
    assert refused.path.endswith("/chat/completions")
    image = {"type": "image_url", "image_url": {"url": PICTURE}}
    for request in (own, third):
        messages = request.body["messages"]
        assert image in messages[0]["content"]
        assert [messages[1]["tool_calls"][0]["function"]["name"], messages[2]["content"]] == ["weather", "rain"]
    assert [message["role"] for message in third.body["messages"]] == [
        *("user", "assistant", "tool", "assistant", "user", "assistant", "user")
    ]
    begun = ["user", "function_call", "function_call_output", "assistant", "user"]
    assert kinds(second) == begun
    assert kinds(fourth) == [*begun, "reasoning", "image_generation_call", "assistant", "user", "assistant", "user"]
    for request in (second, fourth, fifth):
        items = request.body["input"]
        assert {"type": "input_image", "image_url": PICTURE}.items() <= items[0]["content"][1].items()
        assert {"call_1"} == {item["call_id"] for item in items if "call_id" in item}
    assert kinds(fifth).count("reasoning") == 0, "encrypted reasoning goes back to its maker alone"
    assert ENCRYPTED not in fifth.raw.decode()
    assert fourth.raw.decode().count(ENCRYPTED) == 1
    texts = [turn.output_text for turn in turns]
    said = [item["content"] for item in fifth.body["input"] if item.get("role") == "assistant"]
    assert json.dumps(said).count("It rains.") == 2
    assert len(said) == len(texts) - 1

    usage = service.get("/api/usage?by=upstream,day", key=KEY).json()
    rows = {row["upstream"]: row for row in usage["data"]}
    assert {"own", "spare", "main"} <= {*rows}
    assert sum(row["answers"] for row in usage["data"]) == usage["totals"]["answers"]
    assert service.get("/api/usage?by=upstream,session", key=KEY).json()["errors"][0]["field"] == "by"
    metrics = service.get("/metrics").text
    assert re.search(r'chatapi_upstream_answers_total\{status="completed",upstream="spare"\} [1-9]', metrics)
    assert re.search(r'chatapi_upstream_tokens_total\{kind="output",upstream="own"\} [1-9]', metrics)


def test_queued_messages_for_upstreams_with_keys_of_their_own_start_without_the_callers_after_a_kill(
    service: Service, upstreams: Mapping[str, Simulator], gate: Gate
) -> None:
    upstreams["own"].script = scripts.held(gate)
    with ask(service, "small") as first:
        session_id = first.headers["X-Session-ID"]
        next(first.iter_content(1))
        more = {"session_id": session_id, "if_busy": "queue"}
        queued = [service.send(f"Count to {number}", model="small", **more).json() for number in (2, 3)]
        callers = service.send("Count to 4", model="main/gpt-4.1-mini", **more).json()
        stranger = service.send("Count to 4", key=OTHER_KEY, model="small", **more)
        assert stranger.status_code in {401, 404}
        service.kill()
    upstreams["own"].script = answer_without_bearer
    service.start()
    for one in queued:
        service.wait_for_log("generation", generation_id=one["generation_id"], status="completed")
    messages = service.messages(session_id, key=KEY)
    assert [message["content"] for message in messages[3::2]] == ["1 2", "1 2 3"]
    listed = service.get(f"/api/chat/{session_id}/queue", key=KEY).json()  # and this brings the key
    assert [one["id"] for one in listed["data"]] in ([callers["id"]], [])
    service.wait_for_log("generation", generation_id=callers["generation_id"], status="completed")
    assert keys_in(upstreams["main"].requests[-1]) == {KEY}
