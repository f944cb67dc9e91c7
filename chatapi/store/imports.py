"""Imports: store a session that was exported elsewhere, with the messages and times it has.

Its answers have ended and were paid for elsewhere: they are not counted as usage.
"""

from __future__ import annotations

import asyncio
from typing import Any

from msgspec.structs import replace

from chatapi.model import Generation, ImportedSession, Message, Session
from chatapi.store.drivers.driver import Statement, Transaction
from chatapi.store.quotas import content_size, growth
from chatapi.store.repository import Repository, durable_write
from chatapi.store.rows import encode_json, encode_parts
from chatapi.store.sessions import insert_session
from chatapi.store.statements import insert_rows, run_each
from chatapi.store.tree import MESSAGE_INTO

_GENERATION_INTO = (
    "generation (id, session_id, message_id, status, replica, lease_until, model, dialect, owner, created_at, "
    "first_token_at, ended_at, length, finish_reason, usage, error_code, error_detail, left_out)"
)


class Imports(Repository):
    """Sessions from elsewhere."""

    async def add(self, imported: ImportedSession) -> Session:
        """Store a session and its messages, in one transaction."""
        session, messages = imported
        size = growth(None, session.developer_message) + sum(content_size(message.parts) for message in messages)
        self._quotas.require_session_room(None, len(messages), size)
        session = replace(session, content_bytes=size)
        statements = await asyncio.to_thread(_statements, session, messages)  # before the transaction blocks others
        await self._add(session, statements)
        return session

    @durable_write
    def _add(self, session: Session, statements: list[Statement]) -> Transaction[None]:
        yield from self._quotas.take(session.owner, 1, session.content_bytes)
        yield from run_each(statements)


def _statements(session: Session, messages: list[Message]) -> list[Statement]:
    owner = session.owner or ""
    return [
        insert_session(session),
        *insert_rows(MESSAGE_INTO, [_message_row(message) for message in messages]),
        *insert_generations(messages, owner),
    ]


def insert_generations(messages: list[Message], owner: str) -> list[Statement]:
    """Insert the generations of these messages, all of which have ended."""
    generations = [message.generation for message in messages if message.generation is not None]
    return insert_rows(_GENERATION_INTO, [_generation_row(one, owner) for one in generations])


def _message_row(message: Message) -> tuple[Any, ...]:
    return (
        message.id,
        message.session_id,
        message.parent,
        message.depth,
        message.role,
        encode_parts(message.parts),
        message.created_at,
    )


def _generation_row(generation: Generation, owner: str) -> tuple[Any, ...]:
    return (
        generation.id,
        generation.session_id,
        generation.message_id,
        generation.status,
        "",  # no replica produces it
        0,
        generation.model,
        generation.dialect,
        owner,
        generation.created_at,
        generation.first_token_at,
        generation.ended_at,
        generation.length,
        generation.finish_reason,
        encode_json(generation.usage) if generation.usage is not None else None,
        generation.error_code,
        generation.error_detail,
        encode_json(generation.left_out) if generation.left_out is not None else None,
    )
