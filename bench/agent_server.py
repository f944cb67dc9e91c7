"""A server on Microsoft's library that relays the source, for `bench.peers`: `agent_server.py PORT SOURCE [resilient]`.

It runs in `.venv-components`. The library validates, numbers, sends and stores the events; this file only reads the
source's deltas.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from azure.ai.agentserver.responses import ResponseEventStream, ResponsesAgentServerHost, ResponsesServerOptions

PORT, SOURCE = int(sys.argv[1]), sys.argv[2]
app = ResponsesAgentServerHost(
    prefix="/v1",
    options=ResponsesServerOptions(resilient_background="resilient" in sys.argv[3:]),
    configure_observability=None,
)
sessions: list[aiohttp.ClientSession] = []


@app.response_handler
async def answer(request: Any, context: Any, cancellation: asyncio.Event) -> AsyncIterator[Any]:
    """Send on the deltas of the source."""
    if not sessions:
        sessions.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), read_bufsize=2**20))
    stream = ResponseEventStream(response_id=context.response_id, request=request)
    yield stream.emit_created()
    yield stream.emit_in_progress()
    message = stream.add_output_item_message()
    yield message.emit_added()
    text = message.add_text_content()
    yield text.emit_added()
    whole = []
    body = {"model": request["model"], "input": "Hello", "stream": True}
    async with sessions[0].post(f"{SOURCE}/v1/responses", json=body) as response:
        async for line in response.content:
            if line.startswith(b'data: {"type":"response.output_text.delta"'):
                whole.append(json.loads(line[6:])["delta"])
                yield text.emit_delta(whole[-1])
    yield text.emit_text_done("".join(whole))
    yield text.emit_done()
    yield message.emit_done()
    yield stream.emit_completed()


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=PORT)
