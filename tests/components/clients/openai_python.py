"""OpenAI's own client with strict validation, over every operation that the service has."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from pydantic import BaseModel

from tests.components.clients import forwarded
from tests.components.clients.drive import ADA, CITY, GREETING, RECALLED, SECONDS, WHO, Drive, Trial, new_key, refused

HELLO: Any = [{"role": "user", "content": "Hello"}]
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "The weather.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}
TURNS = ["user", "assistant"]


class Place(BaseModel):
    """A structured answer."""

    city: str
    sunny: bool


async def models(drive: Drive) -> None:
    client = drive.sdk()
    assert drive.model in [model.id async for model in client.models.list()]
    assert (await client.models.retrieve(drive.model)).id == drive.model


async def chat_completions(drive: Drive) -> None:
    completions = drive.sdk().chat.completions
    asked: dict[str, Any] = {"model": drive.model, "messages": HELLO}
    whole = await completions.create(**asked)
    assert (whole.choices[0].message.content or "").startswith(GREETING)
    options: Any = {"include_usage": True}
    chunks = [chunk async for chunk in await completions.create(**asked, stream=True, stream_options=options)]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices).startswith(GREETING)
    assert chunks[-1].usage
    async with completions.stream(**asked) as stream:
        gathered = await stream.get_final_completion()
    assert (gathered.choices[0].message.content or "").startswith(GREETING)
    parsed = await completions.parse(**asked, response_format=Place)
    assert parsed.choices[0].message.parsed == Place(city=CITY, sunny=True)
    assert drive.kept() == []


async def stored_chat_completions(drive: Drive) -> None:
    completions = drive.sdk().chat.completions
    made = await completions.create(model=drive.model, messages=HELLO, store=True, metadata={"a": "b"})
    assert [one.id async for one in completions.list()] == [made.id]
    assert (await completions.retrieve(made.id)).choices[0].message.content == made.choices[0].message.content
    assert (await completions.update(made.id, metadata={"c": "d"})).metadata == {"c": "d"}
    messages = drive.sdk(strict=False).chat.completions.messages  # whose type has no messages of users
    assert [message.content async for message in messages.list(made.id)] == ["Hello"]
    assert drive.kept() == [TURNS]
    assert (await completions.delete(made.id)).deleted
    assert [one async for one in completions.list()] == []


async def responses(drive: Drive) -> None:
    client = drive.sdk()
    made = await client.responses.create(model=drive.model, input=ADA)
    asked: dict[str, Any] = {"model": drive.model, "input": WHO, "previous_response_id": made.id}
    events: list[Any] = [event async for event in await client.responses.create(**asked, stream=True)]
    final = events[-1].response
    assert final.output_text.startswith(RECALLED)
    assert await client.responses.retrieve(final.id) == final
    after = events[len(events) // 2].sequence_number
    rest = [event async for event in await client.responses.retrieve(final.id, stream=True, starting_after=after)]
    assert [one.sequence_number for one in rest] == [
        one.sequence_number for one in events if one.sequence_number > after
    ]
    assert [item.role async for item in client.responses.input_items.list(final.id, order="asc")][-1] == "user"
    async with client.responses.stream(model=drive.model, input="Hello", store=False) as stream:
        assert (await stream.get_final_response()).output_text.startswith(GREETING)
    parsed = await client.responses.parse(model=drive.model, input="Hello", text_format=Place, store=False)
    assert parsed.output_parsed == Place(city=CITY, sunny=True)
    called = await client.responses.create(model=drive.model, input="Use weather", tools=[WEATHER], store=False)
    assert [item.type for item in called.output] == ["function_call"]
    assert drive.kept() == [[*TURNS, *TURNS]]
    await client.responses.delete(final.id)
    assert drive.kept() == [TURNS]


async def background_and_cancel(drive: Drive) -> None:
    client = drive.sdk()
    made = await client.responses.create(model=drive.model, input="Hello", background=True)
    cancelled = await client.responses.cancel(made.id)
    assert cancelled.status in {"cancelled", "completed"}
    until = asyncio.get_running_loop().time() + SECONDS
    while (await client.responses.retrieve(made.id)).status in {"queued", "in_progress"}:
        assert asyncio.get_running_loop().time() < until
        await asyncio.sleep(0.05)


async def tokens_and_compaction(drive: Drive) -> None:
    client = drive.sdk()
    if drive.api == "chat":  # which has no counterpart
        await refused(client.responses.input_tokens.count(model=drive.model, input="Hello"), "count the tokens")
        await refused(client.responses.compact(model=drive.model, input=ADA), "compact")
        return
    assert (await client.responses.input_tokens.count(model=drive.model, input="Hello there")).input_tokens == 2
    lenient = drive.sdk(strict=False)  # whose type of this answer has no messages of users
    output: Any = (await lenient.responses.compact(model=drive.model, input=ADA)).output
    assert [item.type for item in output] == ["message", "compaction"]
    again = [*(item.to_dict(warnings=False) for item in output), {"role": "user", "content": WHO}]
    assert (await client.responses.create(model=drive.model, input=again)).output_text.startswith(RECALLED)


async def web_socket(drive: Drive) -> None:
    async with drive.sdk().responses.connect() as connection:
        previous = None
        for text, answer in ((ADA, "You said"), (WHO, RECALLED)):
            await connection.response.create(model=drive.model, input=text, previous_response_id=previous)
            async for event in connection:
                if event.type == "response.completed":
                    assert event.response.output_text.startswith(answer)
                    previous = event.response.id
                    break
    assert drive.kept() == [[*TURNS, *TURNS]]


async def conversations(drive: Drive) -> None:
    client = drive.sdk()
    items: Any = [{"type": "message", "role": "user", "content": ADA}]
    made = await client.conversations.create(items=items, metadata={"a": "b"})
    assert (await client.conversations.update(made.id, metadata={"c": "d"})).metadata == {"c": "d"}
    assert (await client.conversations.retrieve(made.id)).metadata == {"c": "d"}
    answer = await client.responses.create(model=drive.model, input=WHO, conversation=made.id)
    assert answer.output_text.startswith(RECALLED)
    more = await client.conversations.items.create(made.id, items=items)
    assert [item.type for item in more.data] == ["message"]
    listed = [item.id or "" async for item in client.conversations.items.list(made.id, order="asc", limit=2)]
    assert len(listed) == 4
    assert (await client.conversations.items.retrieve(listed[-1], conversation_id=made.id)).id == listed[-1]
    assert (await client.conversations.items.delete(listed[-1], conversation_id=made.id)).id == made.id
    assert drive.kept() == [["user", *TURNS]]
    assert (await client.conversations.delete(made.id)).deleted
    assert drive.kept() == []


def operations_that_are_passed_on(drive: Drive) -> None:
    forwarded.call_all(drive.blocking_sdk())


async def every_operation(drive: Drive) -> None:
    """Call all of the above; check that no operation of the service was left out."""
    await asyncio.to_thread(operations_that_are_passed_on, drive)
    for trial in OWN:
        await trial(replace(drive, key=new_key()))
    assert set(drive.operations) <= {*drive.called}, {*drive.operations} - {*drive.called}


OWN: tuple[Trial, ...] = (
    *(models, chat_completions, stored_chat_completions, responses, background_and_cancel, tokens_and_compaction),
    *(conversations,),
)
TRIALS: tuple[Trial, ...] = (*OWN, web_socket, operations_that_are_passed_on, every_operation)
