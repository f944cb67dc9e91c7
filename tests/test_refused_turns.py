"""What a turn leaves in the store whose key the upstream rejected."""

from __future__ import annotations

import pytest

from chatapi.model import Kind, Media, NewMessage, Outcome, Part, Role, TurnRequest
from chatapi.store import Store
from tests.test_store import COMPLETED, KEY_REJECTED, Writer, anyone, clock, driver, store

__all__ = ["clock", "driver", "store"]

PICTURE = Part(Kind.IMAGE, "", None, Media(url="data:image/png;base64,AAAA"))


@pytest.mark.parametrize(("outcome", "kept"), [(KEY_REJECTED, False), (COMPLETED, True)])
async def test_media_are_kept_only_where_the_key_was_accepted(store: Store, outcome: Outcome, kept: bool) -> None:
    question = NewMessage(Role.USER, (Part(Kind.TEXT, "Look"), PICTURE))
    begun = await store.turns.begin(TurnRequest("anna", None, None, (question,), "gpt", "text"), anyone)
    await Writer(begun).finish(store, outcome)
    message, _ = await store.messages.page_after(begun.session.id, -1, 10)
    assert (PICTURE in message.parts) is kept
    assert message.parts[0] == Part(Kind.TEXT, "Look")
    assert message.text.startswith("Look")


async def test_a_session_that_had_an_owner_before_keeps_it(store: Store) -> None:
    session = await store.sessions.create("anna", "")
    begun = await store.turns.begin(
        TurnRequest("anna", session.id, None, (NewMessage(Role.USER, (Part(Kind.TEXT, "Hi"),)),), "gpt", "text"), anyone
    )
    await Writer(begun).finish(store, KEY_REJECTED)
    found = await store.sessions.find(session.id)
    assert found is not None
    assert found.owner == "anna"
