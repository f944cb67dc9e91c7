"""The context policy: the many words for an overflow, which messages are sent, and sessions that continue."""

from __future__ import annotations

import re
from typing import Any

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from chatapi.errors import ContextTooLarge, UpstreamContextExceeded
from chatapi.generations.context import ContextPlan, left_out_messages, sent_messages
from chatapi.model import (
    Kind,
    LeftOut,
    Microseconds,
    NewMessage,
    Part,
    PathMessage,
    Role,
    Summary,
    ToolCall,
    Usage,
    user_text,
)
from chatapi.settings import Settings
from chatapi.simulator import Script, Simulator, scripts
from chatapi.simulator.record import ReceivedRequest
from chatapi.upstream.context_limits import ContextLimits
from chatapi.upstream.overflow import Overflow, find_overflow
from chatapi.upstream.refusals import read_error
from chatapi.upstream.request import ModelRequest
from tests.server_process import KEY, Serve, Service, events
from tests.test_chat import EVENTS, session_of

JSON = {"Content-Type": "application/json"}

OVERFLOWS = {
    "OpenAI": (
        '{"error":{"message":"This model\'s maximum context length is 128000 tokens. However, your messages resulted '
        "in 130053 tokens. Please reduce the length of the "
        'messages.","type":"invalid_request_error","param":"messages",'
        '"code":"context_length_exceeded"}}',
        Overflow(128000, 130053),
    ),
    "OpenAI's Responses": (
        '{"error":{"message":"Your input exceeds the context window of this model. Please adjust your input and try '
        'again.","type":"invalid_request_error","param":"input","code":"context_length_exceeded"}}',
        Overflow(),
    ),
    "vLLM": (
        '{"object":"error","message":"This model\'s maximum context length is 16384 tokens. However, you requested '
        "122946 tokens (112946 in the messages, 10000 in the completion). Please reduce the length of the messages or "
        'completion.","type":"BadRequestError","param":null,"code":400}',
        Overflow(16384, 122946),
    ),
    "vLLM with images": (
        '{"error":{"message":"The prompt (total length 25938) is too long to fit into the model (context length 4096). '
        'Make sure that `max_model_len` is no smaller than the number of text tokens.","code":400}}',
        Overflow(4096, 25938),
    ),
    "llama.cpp": (
        '{"error":{"code":400,"message":"the request exceeds the available context size. try increasing the context '
        'size or enable context shift","type":"exceed_context_size_error","n_prompt_tokens":14429,"n_ctx":8192}}',
        Overflow(8192, 14429),
    ),
    "llama-cpp-python": ('{"error":{"message":"Requested tokens (516) exceed context window of 512"}}', Overflow(512)),
    "Ollama": ('{"error":"prompt too long; exceeded max context length by 65590 tokens"}', Overflow()),
    "LM Studio": (
        '{"error":"Trying to keep the first 9000 tokens when context the overflows. The number of tokens to keep from '
        'the initial prompt is greater than the context length."}',
        Overflow(),
    ),
    "Anthropic": (
        '{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 213462 tokens > 200000 '
        'maximum"}}',
        Overflow(200000, 213462),
    ),
    "Gemini": (
        '[{"error":{"code":400,"message":"The input token count (314175) exceeds the maximum number of tokens allowed '
        '(131072).","status":"INVALID_ARGUMENT"}}]',
        Overflow(131072, 314175),
    ),
    "DeepSeek": (
        '{"error":{"message":"This model\'s maximum context length is 65536 tokens. However, you requested 72814 '
        "tokens "
        '(68718 in the messages, 4096 in the completion). Please reduce the length of the messages or completion.",'
        '"type":"invalid_request_error","param":null,"code":"invalid_request_error"}}',
        Overflow(65536, 72814),
    ),
    "OpenRouter": (
        '{"error":{"message":"This endpoint\'s maximum context length is 1048576 tokens. However, you requested about '
        '1293741 tokens (1227853 of text input, 353 of tool input, 65535 in the output).","code":400}}',
        Overflow(1048576, 1293741),
    ),
    "OpenRouter, passing on": (
        '{"error":{"message":"Provider returned error","code":400,"metadata":{"raw":"{\\"error\\":{\\"message\\":'
        '\\"prompt is too long: 213462 tokens > 200000 maximum\\"}}","provider_name":"Anthropic"}}}',
        Overflow(200000, 213462),
    ),
    "SGLang": (
        '{"object":"error","message":"The input (150000 tokens) is longer than the model\'s context length (128000 '
        'tokens).","type":"BadRequestError","code":400}',
        Overflow(128000, 150000),
    ),
    "SGLang with an answer": (
        '{"object":"error","message":"Requested token count exceeds the model\'s maximum context length of 1000 '
        "tokens. "
        'You requested a total of 1206 tokens: 6 tokens from the input messages and 1200 tokens for the completion.",'
        '"code":400}',
        Overflow(1000, 1206),
    ),
    "xAI": (
        '{"code":"400","error":"This model\'s maximum prompt length is 131072 but the request contains 537812 '
        'tokens."}',
        Overflow(131072, 537812),
    ),
    "Groq": (
        '{"error":{"message":"Please reduce the length of the messages or completion.","type":"invalid_request_error",'
        '"param":"messages","code":"context_length_exceeded"}}',
        Overflow(),
    ),
    "Mistral": (
        '{"object":"error","message":"Prompt contains 65673 tokens and 0 draft tokens, too large for model with 32768 '
        'maximum context length","type":"invalid_request_error","code":null}',
        Overflow(32768, 65673),
    ),
    "Bedrock": ('{"message":"Input is too long for requested model."}', Overflow()),
    "Moonshot": (
        '{"error":{"message":"Your request exceeded model token limit: 262144 (requested: 300000)","type":"x"}}',
        Overflow(262144, 300000),
    ),
    "MiniMax": (
        '{"error":{"message":"invalid params, context window exceeds limit","type":"bad_request"}}',
        Overflow(),
    ),
    "Text Generation Inference": (
        '{"error":"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` '
        'tokens and 20 `max_new_tokens`","error_type":"validation"}',
        Overflow(4096),
    ),
}
OTHERS = {
    "a rate": (
        413,
        '{"error":{"message":"Request too large for model `llama` on tokens per minute (TPM): Limit 6000, Requested '
        '9000, please reduce the length of the messages and try again.","code":"rate_limit_exceeded"}}',
    ),
    "a rate with its status": (429, '{"error":{"message":"maximum context length is 5 tokens"}}'),
    "the length of an answer": (
        400,
        '{"error":{"message":"max_tokens is too large: 99999. This model supports at most 16384 completion tokens",'
        '"code":"invalid_value"}}',
    ),
    "a long string": (400, '{"error":{"message":"string too long","code":"string_above_max_length"}}'),
    "a failure": (500, '{"error":{"message":"The server had an error."}}'),
}


@pytest.mark.parametrize("server", OVERFLOWS)
def test_an_overflow_is_recognised_in_the_words_of(server: str) -> None:
    body, expected = OVERFLOWS[server]
    report = read_error(body.encode())
    assert find_overflow(400, report.code, report.type, report.words) == expected


@pytest.mark.parametrize("what", OTHERS)
def test_no_overflow_is(what: str) -> None:
    status, body = OTHERS[what]
    report = read_error(body.encode())
    assert find_overflow(status, report.code, report.type, report.words) is None


# Which messages are sent

CALL = st.integers(0, 3)
# The calls of an answer, its size, and whether the user speaks before their results.
STEP = st.tuples(st.lists(CALL, max_size=2, unique=True), st.integers(1, 40), st.booleans())
TURN = st.tuples(st.sampled_from([None, Role.SYSTEM, Role.DEVELOPER]), st.lists(STEP, min_size=1, max_size=3))
REQUEST = ModelRequest("model", (), ("Be brief.",))


def make_path(turns: list[tuple[Role | None, list[tuple[list[int], int, bool]]]]) -> list[PathMessage]:
    """Return a path in which every message would be sent: the calls of each step have results, and a user asks last."""
    made: list[NewMessage] = []
    for role, steps in turns:
        made += [NewMessage(role, (Part(Kind.TEXT, "Rule"),))] if role is not None else []
        made += user_text("Question")
        for calls, size, interrupts in steps:
            called = [Part(Kind.TOOL_CALL, "{}", ToolCall(f"call-{call}", "tool")) for call in calls]
            made.append(NewMessage(Role.ASSISTANT, (Part(Kind.TEXT, "x" * size), *called)))
            made += user_text("Meanwhile") if calls and interrupts else ()
            made += [NewMessage(Role.TOOL, (Part(Kind.TOOL_RESULT, "y", ToolCall(f"call-{call}")),)) for call in calls]
    if not made or made[-1].role is Role.ASSISTANT:
        made += user_text("The newest")
    return [PathMessage(message, f"msg_{index}") for index, message in enumerate(made)]


def without_summary(messages: tuple[NewMessage, ...]) -> list[NewMessage]:
    """Return the messages of a request without the summary before the first text of the user."""
    mark = "</summary>\n\n"
    return [
        replace(one, parts=tuple(replace(part, text=part.text.partition(mark)[2] or part.text) for part in one.parts))
        for one in messages
    ]


@settings(max_examples=80, deadline=None)
@given(st.lists(TURN, max_size=5), st.floats(0, 1), st.booleans())
def test_each_message_is_sent_summarised_or_left_out_and_no_call_lacks_its_result(
    turns: Any, share: float, compacts: bool
) -> None:
    path = tuple(make_path(turns))
    plan: ContextPlan | None = ContextPlan(REQUEST, path, truncates=True)
    left_before = 0
    while plan is not None:
        if compacts and (covered := plan.to_summarise):
            made = Summary(f"sum_{plan.cut}", "", covered[-1].id or "", 0, "model", "text", Microseconds(0))
            plan = replace(plan, summary=made)
            assert not plan.to_summarise
        sent, left = sent_messages(path, plan.cut), left_out_messages(path, plan.cut)
        assert plan.summarised == left[: len(plan.summarised)]
        assert sorted([*sent, *left], key=path.index) == list(path)
        assert len(left) > left_before or not plan.cut, "each cut leaves out more"
        without = left[len(plan.summarised) :]
        ends = (without[0].id, without[-1].id) if without else (None, None)
        summary = plan.summary.id if plan.summary is not None else None
        expected = LeftOut(len(without), *ends, summary, len(plan.summarised))
        assert plan.left_out == (expected if left else None)
        written = without_summary(plan.model_request.messages)
        assert (list(written) != list(plan.model_request.messages)) == (plan.summary is not None)
        assert sorted(map(repr, written)) == sorted(repr(one.message) for one in sent)
        newest = max(index for index, one in enumerate(path) if one.message.role is Role.USER)
        assert path[newest] in sent
        assert all(one.message.role in {Role.ASSISTANT, Role.TOOL, Role.USER} for one in left)
        assert next(one for one in written if one.role not in {Role.SYSTEM, Role.DEVELOPER}).role is Role.USER
        open_calls: list[str] = []
        for one in written:
            calls = [part.call.id for part in one.parts if part.call is not None]
            if one.role is Role.ASSISTANT:
                assert not open_calls
                open_calls = calls
            elif one.role is Role.TOOL:
                assert calls[0] in open_calls
                open_calls.remove(calls[0])
        assert not open_calls
        left_before = len(left)
        plan = plan.shrink(share)


def test_counted_tokens_and_the_numbers_of_a_refusal_decide_how_much_is_left_out() -> None:
    path = [PathMessage(message, f"msg_{index}") for index, message in enumerate(user_text("x" * 91) * 10)]
    answer, question = replace(path[-1], model="model", usage=Usage(900, 100)), PathMessage(user_text("x" * 91)[0])
    counted = [*path[:-1], answer, question]

    def left_out(plan: ContextPlan | None) -> int:
        return plan.left_out.messages if plan is not None and plan.left_out is not None else 0

    plan = ContextPlan(REQUEST, tuple(counted), truncates=True)
    assert [left_out(replace(plan, limit=limit).fit()) for limit in (None, 1200, 1050)] == [0, 0, 4]
    assert left_out(replace(plan, limit=1500, request=replace(REQUEST, parameters={"max_tokens": 600})).fit()) == 5
    estimated = [replace(one, usage=Usage(900, 100, estimated=True)) if one.usage else one for one in counted]
    assert left_out(replace(plan, path=tuple(estimated), limit=1).fit()) == 0, "nothing is guessed"
    kept = [replace(one, left_out=LeftOut(3, "msg_0", "msg_2")) if one.usage else one for one in counted]
    assert left_out(replace(plan, path=tuple(kept)).fit()) == 3, "a cut is kept"
    error = UpstreamContextExceeded()
    assert left_out(plan.after_refusal(error)) == 6
    error.limit_tokens, error.requested_tokens = 800, 1000
    assert left_out(plan.after_refusal(error)) == 5
    assert replace(plan, truncates=False).after_refusal(error) is None
    unread = [replace(one, is_read=index > 4) for index, one in enumerate(counted)]
    assert left_out(replace(plan, path=tuple(unread)).fit()) == 5
    with pytest.raises(ContextTooLarge):
        replace(plan, path=tuple(replace(one, is_read=False) for one in counted)).fit()


def test_limits_are_those_of_the_operator_or_of_the_list_of_models() -> None:
    limits = ContextLimits(Settings(context_tokens="a=100, *=50").context_limits)
    assert [limits.find(model) for model in ("a", "b", "c")] == [100, 50, 50]
    for body in (
        b'{"data":[{"id":"a","max_model_len":9},{"id":"b","context_length":80},{"id":"c","context_window":"x"},1]}',
        b'{"id":"d","meta":{"n_ctx_train":999,"n_ctx":512}}',
        b"no JSON",
    ):
        limits.learn(body)
    assert [limits.find(model) for model in ("a", "b", "c", "d")] == [100, 80, 50, 512]


# Sessions that continue

MOST = 5  # messages that the model takes, instructions included
WORDS = "This model's maximum context length is 5 tokens. Please reduce the length of the messages."


def takes_few(request: ReceivedRequest) -> Script | None:
    """A model whose context is `MOST` messages."""
    if len(request.body["messages"]) <= MOST:
        return None
    return scripts.refuse(400, code="context_length_exceeded", message=WORDS)


@pytest.fixture(scope="module")
def server(serve_module: Serve) -> Service:
    return serve_module(CHATAPI_RATE_LIMIT="0", CHATAPI_CONTEXT="truncate", CHATAPI_CONTEXT_TOKENS="gpt-4o=30")


def ask_text(server: Service, session_id: str, text: str) -> requests.Response:
    return server.send(text, session_id=session_id)


def ask_events(server: Service, session_id: str, text: str) -> requests.Response:
    return server.send(text, session_id=session_id, headers=EVENTS)


def ask_as_page(server: Service, session_id: str, text: str) -> requests.Response:
    message = {"id": text, "role": "user", "parts": [{"type": "text", "text": text}]}
    return server.post(
        "/api/chat", key=KEY, json={"id": session_id, "trigger": "submit-message", "messages": [message]}
    )


def ask_completion(server: Service, session_id: str, text: str) -> requests.Response:
    body = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": text}]}
    return server.post("/v1/chat/completions", key=KEY, json=body, headers={"X-ChatAPI-Session-ID": session_id})


def ask_response(server: Service, session_id: str, text: str) -> requests.Response:
    conversation = session_id.replace("ses_", "conv_")
    return server.post("/v1/responses", key=KEY, json={"input": text, "conversation": conversation})


def test_a_session_that_outgrows_the_model_continues_in_every_dialect(server: Service, upstream: Simulator) -> None:
    upstream.script = takes_few
    with server.send("Count to 1") as first:
        assert first.text == "1"
    session_id = session_of(first)
    asks = [ask_text, ask_events, ask_as_page, ask_completion, ask_response] * 2
    left = 0
    for number, ask in enumerate(asks, 2):
        answer = ask(server, session_id, f"Count to {number}")
        assert answer.status_code == 200, (ask, answer.text)
        assert str(number) in answer.text
        item = re.fullmatch(r'(\d+);first="(msg_.+)";last="(msg_.+)"', answer.headers.get("X-Context-Left-Out", ""))
        messages = server.messages(session_id, key=KEY)
        ids = [message["id"] for message in messages]
        if number < 3:
            assert item is None
            continue
        assert item is not None, number
        left = int(item[1])
        stored = {"messages": left, "first": item[2], "last": item[3], "summary": None, "summarised": 0}
        assert messages[-1]["left_out"] == stored
        assert ids[:left] == ids[: ids.index(item[3]) + 1]
        sent = [message["content"] for message in upstream.requests[-1].body["messages"]]
        assert sent[1:] == [message["content"] for message in messages[left:-1]]
        if ask is ask_events:
            assert events(answer)[1] == ("context", 0, stored)
    assert [message["content"] for message in messages[::2]] == [f"Count to {number}" for number in range(1, 12)]
    body = {"input": "Count to 3", "previous_response_id": answer.json()["id"], "store": False}
    unstored = server.post("/v1/responses", key=KEY, json=body)
    assert unstored.status_code == 200, unstored.text
    assert int(unstored.headers["X-Context-Left-Out"].partition(";")[0]) >= left
    exported = server.get(f"/api/sessions/{session_id}/export", key=KEY)
    assert exported.json()["messages"][-1]["left_out"] == messages[-1]["left_out"]
    copied = server.post("/api/sessions/import", key=KEY, data=exported.content, headers=JSON).json()["session_id"]
    again = server.messages(copied, key=KEY)
    assert again[-1]["left_out"] == {
        **{"messages": left, "first": again[0]["id"], "last": again[left - 1]["id"]},
        **{"summary": None, "summarised": 0},
    }
    resumed = server.get(f"/api/chat/{session_id}/stream?offset=0", key=KEY)
    assert resumed.headers["X-Context-Left-Out"].startswith(f"{left};")


def test_a_session_and_a_request_choose_the_policy_and_one_retry_is_all(server: Service, upstream: Simulator) -> None:
    upstream.script = takes_few
    body = {"developer_message": "", "context": "error"}
    session_id = server.post("/api/sessions", key=KEY, json=body).json()["session_id"]
    for _ in range(3):
        assert server.send("Hello", session_id=session_id).text
    refused = server.send("Hello", session_id=session_id)
    assert (refused.status_code, refused.json()["code"]) == (400, "context_length_exceeded")
    assert ask_response(server, session_id, "Hello").json()["error"]["code"] == "context_length_exceeded"
    seen = len(upstream.requests)
    assert server.send("Hello", session_id=session_id, context="auto").text
    assert len(upstream.requests) == seen + 2
    path = f"/api/sessions/{session_id}"
    assert server.patch(path, key=KEY, json={"context": None}).json()["context"] is None
    assert server.patch(path, key=KEY, json={"title": "Long", "context": "truncate"}).json()["context"] == "truncate"
    wrong = server.patch(path, key=KEY, json={"context": "guess"})
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "context")
    truncation = {"input": "Hello", "conversation": session_id.replace("ses_", "conv_"), "truncation": "disabled"}
    assert server.post("/v1/responses", key=KEY, json=truncation).status_code == 400
    upstream.script = lambda request: scripts.refuse(400, code="context_length_exceeded", message=WORDS)
    seen = len(upstream.requests)
    never = server.send("Hello", session_id=session_id)
    assert (never.status_code, len(upstream.requests)) == (400, seen + 2)


def test_counted_tokens_leave_messages_out_before_the_model_refuses(server: Service, upstream: Simulator) -> None:
    more: dict[str, str] = {}
    for _ in range(5):
        answer = server.send("Count to 9", model="gpt-4o", **more)
        assert answer.text == "1 2 3 4 5 6 7 8 9"
        more = {"session_id": session_of(answer)}
    assert int(answer.headers["X-Context-Left-Out"].partition(";")[0]) > 0
    assert server.messages(session_of(answer), key=KEY)[-1]["left_out"]["messages"] > 0
