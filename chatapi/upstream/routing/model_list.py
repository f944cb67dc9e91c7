"""The models of several upstreams as one list: those of the file, and those that upstreams list themselves.

An upstream is asked for its list if callers can use all of it: the default upstream, and those with a prefix.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import structlog

from chatapi.auth.credentials import Credential
from chatapi.errors import UpstreamError, UpstreamRejectedKey
from chatapi.upstream.metadata import ResponseMetadata
from chatapi.upstream.passthrough import PassthroughBody
from chatapi.upstream.routing.member import Member
from chatapi.upstream.routing.routes import RouteTable
from chatapi.wire.loose_json import UNREADABLE, read_json, write_json

ENTRIES_AT_MOST = 10_000  # of the list of one upstream

logger = structlog.get_logger()


class _Source(NamedTuple):
    """An upstream that is asked for its list: what is put before its names, and the caller's credential there."""

    member: Member
    prefix: str
    credential: Credential


class ModelList:
    """Reads the lists of the upstreams."""

    def __init__(self, table: RouteTable, members: Mapping[str, Member]) -> None:
        self._table = table
        self._members = members

    async def read(self, credential: Credential, most_bytes: int, seconds: float, name: str | None) -> PassthroughBody:
        """Return the whole list, or the entry for one model, as OpenAI writes them.

        Raises:
            UpstreamModelNotFound: there is no such model.
            UpstreamRejectedKey: the file does not admit the caller, and no upstream accepts the key.
            UpstreamError: no upstream can be asked, and the file lists no models.
        """
        if name is not None:
            return await self._read_one(credential, most_bytes, seconds, name)
        admitted = self._table.usable(credential)
        sources = list(self._sources(credential))
        if not admitted and not sources:
            raise UpstreamRejectedKey
        asked = [one.member.upstream.models(one.credential, most_bytes, seconds) for one in sources]
        bodies = await asyncio.gather(*asked, return_exceptions=True)
        entries = {model: _entry(model, self._owner(model)) for model in admitted}
        metadata = ResponseMetadata(None, {}, verifies_caller=self._knows(credential))
        refusal: UpstreamError | None = None
        for source, body in zip(sources, bodies, strict=True):
            if isinstance(body, PassthroughBody):
                for entry in _entries(body.body):
                    model = f"{source.prefix}{entry['id']}"
                    if self._table.leads_to(model, source.member.name):
                        entries.setdefault(model, entry | {"id": model})
                if source.member.listed.takes_callers_key:
                    metadata = body.metadata
            elif isinstance(body, UpstreamError):
                logger.warning("no list of models", upstream=source.member.name, code=body.code)
                if refusal is None or source.member.listed.takes_callers_key:
                    refusal = body
            else:
                raise body
        refused = isinstance(refusal, UpstreamRejectedKey) and not self._knows(credential)
        if refusal is not None and (refused or not entries):
            raise refusal
        whole = write_json({"object": "list", "data": list(entries.values())}).encode()
        return PassthroughBody(whole, metadata)

    async def _read_one(self, credential: Credential, most_bytes: int, seconds: float, name: str) -> PassthroughBody:
        route = self._table.require(name, credential)
        target = route.equal[0]
        member = self._members[target.upstream]
        sent = self._table.credential_for(member.listed, credential)
        if sent is None:
            raise UpstreamRejectedKey
        if self._table.aliases.get(name, name) in self._table.models:
            body = write_json(_entry(name, target.upstream)).encode()
            return PassthroughBody(body, ResponseMetadata(None, {}, verifies_caller=self._knows(credential)))
        whole = await member.upstream.models(sent, most_bytes, seconds, target.model)
        if target.model == name:
            return whole
        try:
            entry = read_json(whole.body)
        except UNREADABLE:
            return whole
        entry = entry | {"id": name} if isinstance(entry, dict) else entry
        return PassthroughBody(write_json(entry).encode(), whole.metadata)

    def _sources(self, credential: Credential) -> Iterator[_Source]:
        for name, member in self._members.items():
            prefixes = [member.listed.entry.prefix] if member.listed.entry.prefix else []
            prefixes += [""] if name == self._table.default else []
            sent = self._table.credential_for(member.listed, credential)
            if sent is not None:
                yield from (_Source(member, prefix, sent) for prefix in prefixes)

    def _owner(self, model: str) -> str:
        return self._table.models[model].equal[0].upstream

    def _knows(self, credential: Credential) -> bool:
        return credential.key is not None and self._table.callers.know(credential.key)


def _entry(model: str, upstream: str) -> dict[str, Any]:
    return {"id": model, "object": "model", "created": 0, "owned_by": upstream}


def _entries(body: bytes) -> list[dict[str, Any]]:
    try:
        value = read_json(body)
    except UNREADABLE:
        return []
    listed = value.get("data") if isinstance(value, dict) else None
    entries = listed[:ENTRIES_AT_MOST] if isinstance(listed, list) else []
    return [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)]
