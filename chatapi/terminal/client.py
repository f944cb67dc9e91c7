"""Requests to a server, with the standard library. An answer that loses its connection is read on from its position."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

SECONDS = 60.0  # without a byte; the server breaks each silence of an answer after 10 seconds
ATTEMPTS = 8  # to reach the server again during an answer
FIRST_PAUSE_SECONDS = 0.25  # before the second one; doubled each time
LONGEST_PAUSE_SECONDS = 8.0
RETRIED = frozenset({"unreachable", "unavailable", "store_unavailable", "overloaded", "draining", ""})
MAX_LINE_BYTES = 1024 * 1024
MAX_BODY_BYTES = 64 * 1024 * 1024
# The strings that an event must have to be shown.
_STRINGS = {
    "session": ("session_id", "generation_id", "message_id"),
    "text": ("text",),
    "refusal": ("text",),
    "error": ("detail",),
}


class Failed(Exception):
    """A request that did not succeed: one sentence, and the code of the error if the server sent one."""

    def __init__(self, sentence: str, code: str = "") -> None:
        super().__init__(sentence)
        self.code = code


class Event(NamedTuple):
    """An event of an answer: `session`, `text`, `reasoning`, `done`, `error` and others, with its data."""

    name: str
    data: dict[str, Any]


class ChatClient:
    """One server, as one caller. Methods raise `Failed`."""

    def __init__(self, url: str, key: str, sleep: Callable[[float], None] = time.sleep) -> None:
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            host, port = (parts.hostname or "").encode("idna").decode(), parts.port
        except ValueError:
            host, port = "", None
        if not host or parts.scheme not in {"http", "https"}:
            raise Failed("--url: must be the http or https address of a server, such as http://127.0.0.1:8000.")
        self.url = f"{parts.scheme}://{parts.netloc}"
        self._host, self._port, self._is_https = host, port, parts.scheme == "https"
        self._path = quote(parts.path.rstrip("/"), safe="/%")
        self._key = key
        self._sleep = sleep

    def send(self, message: dict[str, Any]) -> Generator[Event]:
        """Send a message, and yield the events of its answer to the last. A lost connection is not a failure."""
        position, session_id, generation_id = "0", "", ""
        attempts = 0
        connection, response = self._begin("POST", "/api/chat", message, "text/event-stream")
        while True:
            try:
                for name, event_id, data in self._read_events(response):
                    if name == "session":
                        if generation_id:
                            continue  # of the stream that is read on
                        session_id, generation_id = data["session_id"], data["generation_id"]
                    position, attempts = event_id or position, 0
                    yield Event(name, data)
                    if name in {"done", "error"}:
                        return
            except (OSError, http.client.HTTPException):
                pass  # read on below
            finally:
                connection.close()
            if not generation_id:
                raise Failed("The connection was lost before the answer began. Look at the session, then send again.")
            path = f"/api/chat/{quote(session_id, safe='')}/stream?generation_id={quote(generation_id, safe='')}"
            while True:
                attempts += 1
                if attempts > ATTEMPTS:
                    raise Failed("The connection was lost, and the server cannot be reached. The answer is kept there.")
                self._sleep(min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (attempts - 1)))
                try:
                    connection, response = self._begin("GET", path, None, "text/event-stream", position)
                    break
                except Failed as failure:
                    if failure.code not in RETRIED:
                        raise

    def _read_events(self, response: http.client.HTTPResponse) -> Iterator[tuple[str, str, dict[str, Any]]]:
        try:
            yield from _events(response)
        except ValueError as error:
            raise self._is_another() from error

    def stop(self, session_id: str) -> None:
        """Stop the running answer of a session; return when the model API is no longer asked."""
        self.request("POST", f"/api/chat/{quote(session_id, safe='')}/stop")

    def sessions(self, limit: int) -> list[dict[str, Any]]:
        """Return the sessions that were used last."""
        return self._list(f"/api/sessions?sort=updated&limit={limit}", "session_id")

    def messages(self, session_id: str, limit: int) -> list[dict[str, Any]]:
        """Return the last messages of a session, the oldest of them first."""
        path = f"/api/sessions/{quote(session_id, safe='')}/messages?order=desc&limit={limit}"
        return self._list(path, "id", "role")[::-1]

    def request(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a request and return its JSON object."""
        connection, response = self._begin(method, path, body, "application/json")
        try:
            value = json.loads(response.read(MAX_BODY_BYTES))
        except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
            raise Failed(f"The response of {self.url} broke off. Try again.", "unreachable") from error
        finally:
            connection.close()
        if not isinstance(value, dict):
            raise self._is_another()
        return value

    def _list(self, path: str, *strings: str) -> list[dict[str, Any]]:
        """Return a list of objects that have these strings."""
        found = self.request("GET", path).get("data")
        if not isinstance(found, list) or not all(_has_strings(one, strings) for one in found):
            raise self._is_another()
        return found

    def _is_another(self) -> Failed:
        return Failed(f"The response of {self.url} is not one of this API. Check the address and its path.")

    def _begin(
        self, method: str, path: str, body: dict[str, Any] | None, accept: str, position: str = ""
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """Send a request; return its connection and its response, whose status is not an error."""
        headers = {"Accept": accept, "Authorization": f"Bearer {self._key}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if position:
            headers["Last-Event-ID"] = position
        connection = self._connection()
        try:
            data = json.dumps(body).encode() if body is not None else None
            connection.request(method, self._path + path, data, headers)
            response = connection.getresponse()
            if response.status < http.client.BAD_REQUEST:
                return connection, response
            failure = _failure(response)
        except ssl.SSLCertVerificationError as error:
            failure = Failed(f"The certificate of {self.url} is not valid: {error.verify_message}.")
        except (OSError, http.client.HTTPException) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
            failure = Failed(
                f"{self.url} cannot be reached ({reason}). Start a server with `chatapi`, or name another with --url.",
                "unreachable",
            )
        connection.close()
        raise failure

    def _connection(self) -> http.client.HTTPConnection:
        if self._is_https:
            return http.client.HTTPSConnection(self._host, self._port, timeout=SECONDS)
        return http.client.HTTPConnection(self._host, self._port, timeout=SECONDS)


def _failure(response: http.client.HTTPResponse) -> Failed:
    """Return the error that a response describes."""
    try:
        problem = json.loads(response.read(MAX_LINE_BYTES))
        more = "".join(f" {error['field']}: {error['message']}" for error in problem.get("errors", ())[1:])
        return Failed(f"{problem['detail']}{more}", str(problem.get("code", "")))
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Failed(f"The server answered with status {response.status}.")


def _has_strings(value: Any, names: tuple[str, ...]) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(name), str) for name in names)


def _read_event(name: str, data: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except RecursionError as error:
        raise ValueError(name) from error
    if not _has_strings(value, _STRINGS.get(name, ())):
        raise ValueError(name)
    return dict(value)


def _events(response: http.client.HTTPResponse) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the name, the id and the data of each complete event (WHATWG HTML, section 9.2).

    Raises:
        OSError, http.client.HTTPException: the connection was lost.
        ValueError: it is not an event of this API.
    """
    name, event_id, data = "", "", ""
    while line := response.readline(MAX_LINE_BYTES):
        if not line.endswith(b"\n"):
            raise http.client.IncompleteRead(line)
        field, _, value = line.decode().rstrip("\r\n").partition(":")
        value = value.removeprefix(" ")
        match field:
            case "event":
                name = value
            case "id":
                event_id = value
            case "data":
                data += value
            case "" if data and not value:
                yield name, event_id, _read_event(name, data)
                name, data = "", ""
    raise http.client.IncompleteRead(b"")  # before the last event
