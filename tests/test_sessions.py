"""Sessions: their owners read, change and delete them, and other keys cannot."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from chatapi.simulator import Gate, Simulator, answer, refuse, scripts
from tests.server_process import KEY, OTHER_KEY, SECRETS, Serve, Service

NOT_FOUND = b'{"detail":"Session not found"}'
SECONDS = 10.0
MOST_PAGES = 10  # in any list here
EVENTS = {"Accept": "text/event-stream"}

# Every route of one session, as (method, path, body).
ROUTES = [
    ("GET", "/api/sessions/{id}", None),
    ("PATCH", "/api/sessions/{id}", {"title": "Mine now"}),
    ("GET", "/api/sessions/{id}/messages", None),
    ("GET", "/api/sessions/{id}/export", None),
    ("GET", "/api/sessions/{id}/export?format=markdown", None),
    ("GET", "/api/chat/{id}/stream", None),
    ("GET", "/api/chat/{id}/stream?offset=0", None),
    ("GET", "/api/chat/{id}/stream?generation_id={generation}", None),
    ("POST", "/api/chat/{id}/stop", None),
    ("POST", "/api/chat/{id}/stop", {"generation_id": "{generation}"}),
    ("POST", "/api/sessions/{id}/fork", None),
    ("DELETE", "/api/sessions/{id}", None),
]
CHAT = ("POST", "/api/chat", {"user_message": "Hello", "session_id": "{id}"})
Route = tuple[str, str, dict[str, str] | None]


@pytest.fixture(scope="module")
def server(serve_module: Serve) -> Service:
    return serve_module(CHATAPI_RATE_LIMIT="0")


@pytest.fixture(scope="module")
def strict(serve_module: Serve) -> Service:
    """A server on which a key is always needed."""
    return serve_module(CHATAPI_RATE_LIMIT="0", CHATAPI_SESSION_ACCESS="key")


@pytest.fixture(scope="module")
def trusting(serve_module: Serve) -> Service:
    """A server on which an id gives access to everything but spending."""
    return serve_module(CHATAPI_RATE_LIMIT="0", CHATAPI_SESSION_ACCESS="id")


def fresh_key(name: str) -> str:
    """A key that no other test uses."""
    key = "sk-proj-" + name.ljust(156, "_")
    SECRETS.append(key)
    return key


def begun(server: Service, key: str = KEY, text: str = "Count to 3") -> tuple[str, str]:
    """A session with one turn: its id and its generation's."""
    with server.send(text, key=key) as response:
        assert response.status_code == 200
        assert response.text
    return response.headers["X-Session-ID"], response.headers["X-Generation-ID"]


def made(server: Service, key: str | None = None) -> str:
    """A session without a turn."""
    response = server.post("/api/sessions", key=key, json={"developer_message": "Be brief."})
    assert response.status_code == 200
    return str(response.json()["session_id"])


def ask(
    server: Service,
    route: Route,
    session_id: str,
    generation_id: str = "gen_none",
    key: str | None = None,
    **headers: str,
) -> requests.Response:
    """Request the route for this session."""
    method, path, body = route
    names = {"id": session_id, "generation": generation_id}
    filled = {name: value.format(**names) for name, value in body.items()} if body else None
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    return requests.request(method, server.url + path.format(**names), json=filled, headers=headers, timeout=SECONDS)


def what_an_outsider_sees(response: requests.Response) -> tuple[int, bytes, dict[str, str]]:
    """Return all of a response but its date and its request id."""
    headers = {name: value for name, value in response.headers.items() if name not in {"date", "x-request-id"}}
    return response.status_code, response.content, headers


# Changing, listing, reading


def test_a_title_metadata_and_developer_message_can_be_set_and_omitted_fields_stay(server: Service) -> None:
    session_id = made(server)
    path = f"/api/sessions/{session_id}"
    first = server.patch(path, json={"title": "Über 東京", "metadata": {"colour": "blue"}}).json()
    assert (first["title"], first["metadata"], first["developer_message"]) == (
        "Über 東京",
        {"colour": "blue"},
        "Be brief.",
    )
    second = server.patch(path, json={"developer_message": "Be long.", "title": None}).json()
    assert (second["title"], second["metadata"], second["developer_message"]) == (
        "Über 東京",
        {"colour": "blue"},
        "Be long.",
    )
    assert second["last_updated"] > first["last_updated"]
    assert second["created_at"] == first["created_at"]
    third = server.patch(path, json={"title": "", "metadata": {}}).json()
    assert (third["title"], third["metadata"]) == (None, {})
    assert server.get(path).json() == third


def test_a_changed_developer_message_is_sent_upstream(server: Service, upstream: Simulator) -> None:
    session_id, _ = begun(server)
    server.patch(f"/api/sessions/{session_id}", json={"developer_message": "Speak Latin."})
    with server.send("Salve", session_id=session_id):
        assert upstream.requests[-1].body["messages"][0] == {"role": "developer", "content": "Speak Latin."}


def pages(server: Service, path: str, key: str | None, limit: int) -> list[list[dict[str, Any]]]:
    """Return every page, following the cursors."""
    found: list[list[dict[str, Any]]] = []
    cursor = ""
    while True:
        assert len(found) < MOST_PAGES, "the cursors form a cycle"
        page = server.get(f"{path}{'&' if '?' in path else '?'}limit={limit}{cursor}", key=key).json()
        assert page.keys() == {"data", "next_cursor"}
        found.append(page["data"])
        if page["next_cursor"] is None:
            return found
        cursor = f"&cursor={page['next_cursor']}"


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 100])
def test_the_conversation_is_paged_from_its_first_message_on(strict: Service, limit: int) -> None:
    key = fresh_key(f"pages-{limit}")
    session_id, _ = begun(strict, key)
    with strict.send("Count to 2", session_id=session_id, key=key) as response:
        assert response.text == "1 2"
    found = pages(strict, f"/api/sessions/{session_id}/messages", key, limit)
    said = ["Count to 3", "1 2 3", "Count to 2", "1 2"]
    assert [message["content"] for page in found for message in page] == said
    assert [len(page) for page in found] == [min(limit, 4 - start) for start in range(0, 4, limit)]
    back = pages(strict, f"/api/sessions/{session_id}/messages?order=desc", key, limit)
    assert [len(page) for page in back] == [len(page) for page in found]
    assert [message for page in back for message in page] == [message for page in found for message in page][::-1]


@pytest.mark.parametrize("limit", [1, 2, 4, 5, 6])
def test_a_user_sees_all_own_sessions_newest_first_and_no_others(strict: Service, limit: int) -> None:
    key = fresh_key(f"list-{limit}")
    mine = [made(strict, key) for _ in range(4)] + [begun(strict, key)[0]]
    begun(strict, OTHER_KEY)
    made(strict)
    found = pages(strict, "/api/sessions", key, limit)
    assert [session["session_id"] for page in found for session in page] == mine[::-1]
    assert all(len(page) == limit for page in found[:-1])
    assert 1 <= len(found[-1]) <= limit
    assert found[0][0] == strict.get(f"/api/sessions/{mine[-1]}", key=key).json()


def test_a_list_that_grows_while_it_is_paged_shows_nothing_twice(strict: Service) -> None:
    key = fresh_key("growing")
    mine = [made(strict, key) for _ in range(3)]
    first = strict.get("/api/sessions?limit=2", key=key).json()
    made(strict, key)
    second = strict.get(f"/api/sessions?limit=2&cursor={first['next_cursor']}", key=key).json()
    assert [session["session_id"] for session in first["data"] + second["data"]] == mine[::-1]


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_a_user_sees_all_own_sessions_by_their_last_use(strict: Service, limit: int) -> None:
    key = fresh_key(f"used-{limit}")
    first, second, third = (made(strict, key) for _ in range(3))
    begun(strict, OTHER_KEY)
    with strict.send(session_id=second, key=key) as response:
        assert response.text
    strict.patch(f"/api/sessions/{first}", key=key, json={"metadata": {"a": "b"}})
    by_use = "/api/sessions?sort=updated"
    found = pages(strict, by_use, key, limit)
    assert [session["session_id"] for page in found for session in page] == [first, second, third]
    page = strict.get(f"{by_use}&limit=1", key=key).json()
    with strict.send(session_id=third, key=key) as response:
        assert response.text
    rest = strict.get(f"{by_use}&cursor={page['next_cursor']}", key=key).json()["data"]
    assert [session["session_id"] for session in rest] == [second], "the third has moved before the ones already shown"
    for other in (f"/api/sessions?cursor={page['next_cursor']}", f"{by_use}&cursor={cursor_of(strict, key)}"):
        refused = strict.get(other, key=key)
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "cursor")


def cursor_of(server: Service, key: str) -> str:
    """Return a cursor of the list by age."""
    return str(server.get("/api/sessions?limit=1", key=key).json()["next_cursor"])


def test_the_list_needs_a_key(server: Service) -> None:
    response = server.get("/api/sessions")
    assert response.status_code == 401
    assert response.json()["code"] == "api_key_required"
    assert response.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "query",
    [
        "cursor=x",
        "cursor=!!!!",
        "cursor=OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTp4",
        "cursor=" + "a" * 201,
        "cursor=%00",
        "cursor=%ED%A0%80",
        "limit=0",
        "limit=101",
        "limit=-1",
        "limit=x",
        "limit=1e1",
        "limit=" + "9" * 5000,
    ],
)
@pytest.mark.parametrize("path", ["/api/sessions", "/api/sessions/{id}/messages"])
@pytest.mark.one_process("it is refused before anything is read")
def test_an_invalid_cursor_is_refused_by_name(server: Service, path: str, query: str) -> None:
    session_id, _ = begun(server)
    response = server.get(f"{path.format(id=session_id)}?{query}", key=KEY)
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == query.partition("=")[0]


@pytest.mark.one_process("it is refused before anything is read")
def test_an_unknown_order_is_refused(server: Service) -> None:
    for path in ("/api/sessions?sort=used", "/api/sessions/ses_none/messages?order=up"):
        response = server.get(path, key=KEY)
        assert (response.status_code, response.json()["code"]) == (422, "invalid_request")


# Access


@pytest.mark.table
@pytest.mark.parametrize("route", ROUTES[:-1], ids=lambda route: " ".join(route[:2]))
def test_on_this_machine_the_session_id_is_enough(server: Service, route: Route) -> None:
    session_id, generation_id = begun(server)
    for key in (None, KEY):
        assert ask(server, route, session_id, generation_id, key).status_code in {200, 201, 204}
    seen = ask(server, route, session_id, generation_id, OTHER_KEY)
    assert (seen.status_code, seen.content) == (404, NOT_FOUND), "but not with the key of another owner"


@pytest.mark.table
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "chat.example.org"},
        {"Host": "127.0.0.1.example.org"},
        {"Host": "localhost.example.org:8000"},
        {"Host": "203.0.113.7"},
        {"X_Forwarded_For": "203.0.113.7"},
        {"X_Forwarded_For": "127.0.0.1"},
        {"X_Forwarded_Host": "localhost"},
        {"X_Forwarded_Proto": "https"},
        {"X_Real_IP": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1"},
        {"Via": "1.1 proxy"},
        {"CF_Connecting_IP": "127.0.0.1"},
    ],
    ids=str,
)
@pytest.mark.parametrize("route", ROUTES, ids=lambda route: " ".join(route[:2]))
def test_requests_that_may_come_from_elsewhere_need_the_owners_key(
    server: Service, session_of_someone: tuple[str, str], route: Route, headers: dict[str, str]
) -> None:
    for key in (None, OTHER_KEY):
        never_was = what_an_outsider_sees(ask(server, route, "ses_never-was", key=key, **headers))
        seen = ask(server, route, *session_of_someone, key=key, **headers)
        assert what_an_outsider_sees(seen) == never_was
        if key is None:
            check_key_required(seen)
        else:
            assert (seen.status_code, seen.content) == (404, NOT_FOUND)


def check_key_required(response: requests.Response) -> None:
    """The answer to a request without a key, for any session, where a key is required."""
    assert (response.status_code, response.json()["code"]) == (401, "api_key_required")
    assert response.headers["WWW-Authenticate"] == "Bearer"


@pytest.fixture(scope="module")
def session_of_someone(server: Service) -> tuple[str, str]:
    return begun(server)


@pytest.mark.table
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1234", "[::1]:8000", "LocalHost:80", "127.8.9.10"])
def test_a_loopback_name_is_this_machine(server: Service, session_of_someone: tuple[str, str], host: str) -> None:
    assert ask(server, ROUTES[0], *session_of_someone, Host=host).status_code == 200


@pytest.mark.parametrize("how", ["Authorization", "X-API-Key"])
def test_the_owners_key_opens_the_session_from_anywhere(
    server: Service, session_of_someone: tuple[str, str], how: str
) -> None:
    headers = {how: f"Bearer {KEY}" if how == "Authorization" else KEY, "Host": "chat.example.org", "Via": "1.1 proxy"}
    for route in ROUTES[:-1]:
        assert ask(server, route, *session_of_someone, None, **headers).status_code in {200, 201, 204}


@pytest.mark.parametrize("route", [*ROUTES, CHAT], ids=lambda route: " ".join(route[:2]))
def test_a_session_of_another_key_looks_like_an_unknown_one(strict: Service, upstream: Simulator, route: Route) -> None:
    theirs, generation_id = begun(strict, OTHER_KEY)
    deleted, deleted_generation = begun(strict)
    assert strict.delete(f"/api/sessions/{deleted}", key=KEY).status_code == 200
    asked = len(upstream.requests)
    never_was = what_an_outsider_sees(ask(strict, route, "ses_AAAAAAAAAAAAAAAAAAAAAA", key=KEY))
    assert never_was[:2] == (404, NOT_FOUND)
    assert what_an_outsider_sees(ask(strict, route, theirs, generation_id, KEY)) == never_was
    assert what_an_outsider_sees(ask(strict, route, deleted, deleted_generation, KEY)) == never_was
    for malformed in ("x", "ses_" + "A" * 2000, "%20", "0", "ses_Ünïcode", "'; DROP TABLE session; --", "None"):
        assert what_an_outsider_sees(ask(strict, route, malformed, generation_id, KEY)) == never_was
    assert len(upstream.requests) == asked
    assert strict.get(f"/api/sessions/{theirs}", key=OTHER_KEY).json()["title"] == "Count to 3", "its own"


@pytest.mark.table
@pytest.mark.parametrize("route", ROUTES, ids=lambda route: " ".join(route[:2]))
def test_without_a_key_every_id_gets_the_same_401_where_a_key_is_required(strict: Service, route: Route) -> None:
    session_id, generation_id = begun(strict)
    never_was = ask(strict, route, "ses_AAAAAAAAAAAAAAAAAAAAAA", generation_id)
    seen = ask(strict, route, session_id, generation_id)
    check_key_required(seen)
    assert what_an_outsider_sees(seen) == what_an_outsider_sees(never_was)
    assert ask(strict, route, session_id, generation_id, KEY).status_code in {200, 201, 204}


@pytest.mark.table
@pytest.mark.parametrize("route", ROUTES, ids=lambda route: " ".join(route[:2]))
def test_if_the_id_is_enough_it_is_enough_from_anywhere(trusting: Service, route: Route) -> None:
    session_id, generation_id = begun(trusting)
    seen = ask(trusting, route, session_id, generation_id, Host="chat.example.org", Via="1.1 proxy")
    assert seen.status_code in {200, 201, 204}


@pytest.mark.usefixtures("deploy")  # in which the servers are created
@pytest.mark.parametrize("name", ["server", "strict", "trusting"])
def test_only_the_owner_can_spend_in_a_session(name: str, upstream: Simulator, request: pytest.FixtureRequest) -> None:
    server: Service = request.getfixturevalue(name)
    session_id, _ = begun(server)
    asked = len(upstream.requests)
    for extra in ({}, {"if_busy": "interrupt"}):
        with server.send("Hello", session_id=session_id, key=OTHER_KEY, **extra) as response:
            assert (response.status_code, response.content) == (404, NOT_FOUND)
    assert len(upstream.requests) == asked
    assert len(server.messages(session_id, key=KEY)) == 2


def test_a_session_belongs_to_the_key_of_its_first_chat(strict: Service) -> None:
    session_id = made(strict)
    assert strict.get(f"/api/sessions/{session_id}").status_code == 200  # without an owner the id is enough
    with strict.send("Count to 2", session_id=session_id) as response:
        assert response.text == "1 2"
    check_key_required(strict.get(f"/api/sessions/{session_id}"))
    assert strict.get(f"/api/sessions/{session_id}", key=OTHER_KEY).status_code == 404
    assert strict.get(f"/api/sessions/{session_id}", key=KEY).status_code == 200


def test_a_session_created_with_a_key_belongs_to_it_at_once(strict: Service) -> None:
    session_id = made(strict, KEY)
    check_key_required(strict.get(f"/api/sessions/{session_id}"))
    assert strict.get(f"/api/sessions/{session_id}", key=KEY).status_code == 200
    with strict.send("Hello", session_id=session_id, key=OTHER_KEY) as response:
        assert response.status_code == 404


def test_a_session_whose_first_key_was_mistyped_can_be_used_with_the_right_one(
    strict: Service, upstream: Simulator
) -> None:
    session_id = made(strict)
    with strict.send("Hello", session_id=session_id, key=fresh_key("invalid")) as response:
        assert response.status_code == 401
        assert response.headers["X-Session-ID"] == session_id
    with strict.send("Count to 2", session_id=session_id) as response:
        assert response.text == "1 2"
    assert upstream.requests[-1].body["messages"][1:] == [{"role": "user", "content": "Count to 2"}]
    with strict.send("Hello", session_id=session_id, key=OTHER_KEY) as response:
        assert response.status_code == 404


def test_a_key_that_is_rejected_later_loses_nothing(strict: Service, upstream: Simulator) -> None:
    session_id, _ = begun(strict)
    upstream.script = refuse(401)
    with strict.send("Hello", session_id=session_id) as response:
        assert response.status_code == 401
    assert strict.get(f"/api/sessions/{session_id}", key=OTHER_KEY).status_code == 404
    assert strict.get(f"/api/sessions/{session_id}", key=KEY).status_code == 200


# Delete


def test_a_deleted_session_is_not_found_anywhere(strict: Service) -> None:
    key = fresh_key("deleting")
    kept, (gone, generation_id) = made(strict, key), begun(strict, key)
    before = strict.get("/api/health").json()["active_sessions"]
    assert ask(strict, ROUTES[-1], gone, key=key).content == b'{"message":"Session deleted successfully"}'
    for route in ROUTES:
        seen = ask(strict, route, gone, generation_id, key)
        assert (seen.status_code, seen.content) == (404, NOT_FOUND)
    listed = strict.get("/api/sessions", key=key).json()["data"]
    assert [session["session_id"] for session in listed] == [kept]
    assert strict.get("/api/health").json()["active_sessions"] == before - 1


def test_a_session_deleted_during_its_answer_stops_it_and_never_reappears(server: Service, upstream: Simulator) -> None:
    gate = Gate()
    upstream.script = scripts.held(gate)
    with server.send(headers=EVENTS | {"Idempotency-Key": "deleted"}) as response:
        lines = response.iter_lines()
        assert any(b"Hello" in line for line in lines)
        session_id, generation_id = response.headers["X-Session-ID"], response.headers["X-Generation-ID"]
        assert server.delete(f"/api/sessions/{session_id}").status_code == 200
        assert upstream.requests[-1].left.wait(SECONDS)
        assert any(b"session_deleted" in line for line in lines)
    gate.open()
    for route in ROUTES:
        seen = ask(server, route, session_id, generation_id, KEY)
        assert (seen.status_code, seen.content) == (404, NOT_FOUND)
    with server.send(headers={"Idempotency-Key": "deleted"}) as again:  # a new answer: there is nothing to replay
        assert again.text == "Hello there."
        assert again.headers["X-Session-ID"] != session_id


def test_a_text_whose_session_is_deleted_is_cut(server: Service, upstream: Simulator) -> None:
    gate = Gate()
    upstream.script = scripts.held(gate)
    with server.send() as response:
        chunks = response.iter_content(None)
        assert next(chunks) == b"Hello"
        server.delete(f"/api/sessions/{response.headers['X-Session-ID']}")
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            b"".join(chunks)
    gate.open()


def test_a_session_that_is_answering_can_be_read(server: Service, upstream: Simulator) -> None:
    gate = Gate()
    upstream.script = scripts.held(gate)
    with server.send() as response:
        chunks = response.iter_content(None)
        assert next(chunks) == b"Hello"
        session_id = response.headers["X-Session-ID"]
        reply = server.messages(session_id)[-1]
        assert (reply["content"], reply["status"], reply["ended_at"]) == ("Hello", "running", None)
        assert server.patch(f"/api/sessions/{session_id}", json={"title": "Live"}).json()["title"] == "Live"
        gate.open()
        assert b"".join(chunks) == b" there."
    assert server.get(f"/api/sessions/{session_id}").json()["title"] == "Live"


def test_two_sessions_of_one_user_do_not_mix(server: Service, upstream: Simulator) -> None:
    first, _ = begun(server, text="My colour is blue.")
    second, _ = begun(server, text="My colour is crimson.")
    upstream.script = answer("Noted.")
    for session_id, mine, theirs in ((first, "blue", "crimson"), (second, "crimson", "blue")):
        with server.send("And?", session_id=session_id):
            said = str(upstream.requests[-1].body["messages"])
        assert mine in said
        assert theirs not in said
