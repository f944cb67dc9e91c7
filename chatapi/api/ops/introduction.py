"""The introduction of the HTTP reference and the descriptions of its groups, in Markdown."""

from __future__ import annotations

DESCRIPTION = """\
Streams OpenAI-style models to any client and keeps the conversation.

**Requests.** Bodies are uncompressed JSON objects in UTF-8 with `Content-Type: application/json`. An unknown field is
an error. Times are ISO 8601 in UTC with an offset. Ids are opaque: the server makes them from at least 128 random bits.

**Key.** Send your OpenAI API key as `Authorization: Bearer …`, as `X-API-Key: …`, or as `api_key` in the body of
`/api/chat` and `/api/test-key`. It begins with `sk-proj-`, has 164 characters, and contains only letters, digits,
hyphens and underscores; an operator can require another format (`CHATAPI_KEY_PATTERN`). The server sends it to the
upstream and nowhere else, and does not store it.

**Access.** A session belongs to the key of its first chat. To read, change, stop or delete it, send that key in a
header. By default, a request from the server's own machine without a key needs only the session's id
(`CHATAPI_SESSION_ACCESS`). To send a message, the key is always required. Another owner's session is the same 404 as a
session that does not exist. A key that the upstream rejects owns nothing.

**Errors.** `/api` returns `application/problem+json` (RFC 9457) with `type`, `title`, `status`, `detail` (for people),
`code` (for programs) and, where they help, `errors` (`field`, `message`) or `generation_id`. Two bodies are fixed
and are plain JSON: `{"detail": "Session not found"}` and the one for a malformed key. `/v1` returns OpenAI's error
object. No error repeats a value of the request. A request that the server cannot parse as HTTP is rejected before it
reaches a route, with a 400, 408, 413 or 431.

**Headers.** Every response has `X-Request-ID`, the id of the request in the server's log; a caller can choose it
with a request header of that name (8 to 64 letters, digits, `-` and `_`). Every 429 and 503 has `Retry-After`.
`X-RateLimit-*` show the tighter of this server's limit and the upstream's request limit. The upstream's
`x-ratelimit-*`, `openai-processing-ms`, `openai-version` and `X-Upstream-Request-ID` are passed on. Of several
upstreams, `X-Upstream-Name` names the one that answered.

**Idempotency.** A message sent again with the same `Idempotency-Key` (1 to 255 characters) and the same body
attaches to the running answer or replays the stored one, also a rejection. The upstream is asked once. With another
body it is a 422 (`idempotency_key_reused`).
"""

TAGS = [
    {
        "name": "chat",
        "description": """\
Send messages, and read and stop the answers. The status is sent when the upstream has answered: 200, or the upstream's
error. After 15 seconds without an answer the response begins, so that no proxy gives up.

**Text**, the default: `text/plain; charset=utf-8` with the model's text, in chunks of whole characters and at most
1,024 bytes. If the answer fails, the connection is closed without the final chunk, which every HTTP client reports. A
stopped answer ends cleanly.

**Events**, with `Accept: text/event-stream`: each event's `id` is the position after it. A comment breaks each silence
of 10 seconds.

**JSON**, with `"stream": false`: one object when the answer has ended. A failure is an error status.

**useChat.** `useChat` of the Vercel AI SDK uses the three `/api/chat` routes. A body with `messages` and `trigger` is
from it. It may have 8 MiB (`CHATAPI_MAX_MEDIA_BYTES`), and its answer is a UI message stream, version 1, or plain text
with `Accept: text/plain` (`TextStreamChatTransport`). Give the transport the key: `headers: { Authorization: … }`, or
`body: { api_key: … }`, which the other two routes do not receive. An error status has a sentence as its body, because
the SDK shows the body.

Which of `messages` are new follows from their ids:

- `system` messages are the developer message.
- A message is known by the id that this server or this chat's client gave it. The messages after the last known one
  are new and follow it. If none is known, those after the last `assistant` message are new and follow the session's
  head; in a new chat all are new.
- `submit-message` with the `messageId` of a known user message, or a known one with other content, is an edit: a
  sibling. A known one with the same content gets a new answer.
- `regenerate-message` creates a sibling of the answer `messageId` (or of the last message), or an answer to that user
  message.
- An assistant message with results of tool calls that the session does not have adds those results and asks for the
  next answer. The page keeps several steps in one message; here they are several messages, of which the first has
  its id. If a step failed, sending the message again repeats that step.

`text` and `file` parts are read (data and http URLs; images, WAV and MP3, other files; `providerReference.openai` is a
file id), and in assistant messages `text`, `reasoning` and tool calls. `data-…`, sources and other parts are
ignored. Ids of chats and messages have 1 to 128 characters. A request has at most 10,000 messages, of which 1,000
may be new.
""",
    },
    {
        "name": "sessions",
        "description": """\
Conversations. A session has a developer message and a tree of messages. The active path leads from the first message
to the head; to edit or regenerate a message creates a sibling, and PATCH `head` switches between branches.
""",
    },
    {
        "name": "openai",
        "description": """\
OpenAI's APIs for OpenAI's clients: set their `base_url` to this server's address and `/v1`, and send the key as
`Authorization: Bearer`. Errors are OpenAI's error objects with OpenAI's statuses; if the upstream rejected the
request, its own. A body may have 8 MiB (`CHATAPI_MAX_MEDIA_BYTES`), for images and files.
""",
    },
    {"name": "usage", "description": "The cost of the caller's answers, and the price list."},
    {"name": "keys", "description": "Test a key."},
    {"name": "config", "description": "The configuration that a page needs before it has a key."},
    {"name": "health", "description": "Checks for load balancers and operators."},
]
