"""Server-Sent Events, read and written (WHATWG HTML, section 9.2). Pure: bytes in, bytes out."""

from __future__ import annotations

from chatapi.errors import UpstreamBroken

MAX_EVENT_BYTES = 8 * 1024 * 1024  # one event of an upstream: a generated image is one, of up to some MiB
MEDIA_TYPE = "text/event-stream"
HEARTBEAT = b": keep-alive\n\n"
# Within a stream whose events have ids: with a blank line after it, openai-python reads it as an event without data.
HEARTBEAT_LINE = b": keep-alive\n"
_LINE_FEED = 10
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Decoder:
    """Turns the bytes of an event stream into the data of its events, however the bytes are cut.

    Only `data` is read: OpenAI's streams name no events, and comments are not content.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0  # no event ends before here: a stream of tiny reads stays linear
        self._held = b""  # a last CR, whose LF may be in the next read
        self._begun = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes and return the data of every event that they complete.

        Raises:
            UpstreamBroken: an event is larger than `MAX_EVENT_BYTES`.
        """
        buffer = self._buffer
        if (
            self._begun
            and not buffer
            and not self._held
            and data.startswith(b"data: ")
            and data.find(b"\n") == len(data) - 2  # `find` compares many bytes at once, `count` and `in` do not
            and data[-1] == _LINE_FEED
            and data.find(b"\r") < 0
        ):
            return [data[6:-2]]  # one event of one line, as nearly always
        buffer += self._with_line_feeds(data)
        end = buffer.rfind(b"\n\n", max(0, self._searched - 1))
        if end < 0:
            self._searched = len(buffer)
            if len(buffer) > MAX_EVENT_BYTES:
                raise UpstreamBroken("The model API sent an event that is too large.")
            return []
        complete = bytes(buffer[:end])
        del buffer[: end + 2]
        self._searched = 0
        return self._split(complete)

    def end(self) -> bytes:
        """Return the bytes behind the last complete event; see `last_events`."""
        rest, self._buffer = bytes(self._buffer), bytearray()
        return rest

    def last_events(self, rest: bytes) -> list[bytes]:
        """Return the data of an event whose blank line is missing because the body ended, as OpenAI's clients do."""
        return self._split(rest)

    def _split(self, complete: bytes) -> list[bytes]:
        if not self._begun:
            self._begun = True
            complete = complete.removeprefix(_BYTE_ORDER_MARK)
        if complete.startswith(b"data: "):
            payloads = complete[6:].split(b"\n\ndata: ")
            if complete.count(b"\n") == 2 * (len(payloads) - 1):  # one line each, as usual
                return payloads
        elif complete.startswith(b"event: "):
            events = complete[7:].split(b"\n\nevent: ")
            payloads = [event.partition(b"\ndata: ")[2] for event in events]
            # A name and one line of data each, as in Responses: one line end within each event, and two between them.
            if all(payloads) and complete.count(b"\n") == 3 * len(events) - 2:
                return payloads
        return [payload for event in complete.split(b"\n\n") if (payload := _data_of(event)) is not None]

    def _with_line_feeds(self, data: bytes) -> bytes:
        """`data` with CRLF and CR made LF."""
        if self._held:
            data = self._held + data
            self._held = b""
        if data.find(b"\r") < 0:  # faster than `in`
            return data
        if data.endswith(b"\r"):
            data, self._held = data[:-1], b"\r"
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _data_of(event: bytes) -> bytes | None:
    """The joined `data` lines of one event, or None where there are none."""
    lines = [line for line in event.split(b"\n") if line == b"data" or line.startswith(b"data:")]
    if not lines:
        return None
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines)


def event(name: str, data: bytes, position: int) -> bytes:
    """Write one event. Its id is the position after it; `data` is JSON, which has no line ends."""
    return b"event: %b\nid: %d\ndata: %b\n\n" % (name.encode(), position, data)
