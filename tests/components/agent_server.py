"""A server of Responses on Microsoft's library for agents, in an environment of its own. Serves until it is ended.

The library validates requests, numbers events, and checks their order; this file has the answers.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

from azure.ai.agentserver.responses import ResponseEventStream, ResponsesAgentServerHost

SLOW_SECONDS = 0.05
app = ResponsesAgentServerHost(configure_observability=None)


@app.response_handler
async def answer(request: Any, context: Any, cancellation: asyncio.Event) -> AsyncIterator[Any]:
    """Answer by the words of the last item."""
    stream = ResponseEventStream(response_id=context.response_id, request=request)
    items = [item if isinstance(item, dict) else item.as_dict() for item in await context.get_input_items()]
    said = str(items[-1].get("content") or items[-1].get("output") or "")
    yield stream.emit_created()
    yield stream.emit_in_progress()
    if "break" in said:
        message = stream.add_output_item_message()
        yield message.emit_added()
        text = message.add_text_content()
        yield text.emit_added()
        yield text.emit_delta("Half ")
        raise RuntimeError("the answer breaks")
    if "think" in said:
        for event in stream.output_item_reasoning_item("Let me think."):
            yield event
    if "weather" in said:
        for event in stream.output_item_function_call("weather", "call_1", '{"city":"Rome"}'):
            yield event
    elif "ever" in said:
        message = stream.add_output_item_message()
        yield message.emit_added()
        text = message.add_text_content()
        yield text.emit_added()
        while not cancellation.is_set():
            yield text.emit_delta("on ")
            await asyncio.sleep(SLOW_SECONDS)
        return
    else:
        for event in stream.output_item_message("Take an umbrella!" if "rain" in said else "Hello there, dear reader."):
            yield event
    usage = {
        "input_tokens": len(items),
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": len(items) + 7,
    }
    yield stream.emit_completed(usage=usage)


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=int(sys.argv[1]))
