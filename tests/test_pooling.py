"""The service behind a transaction pooler: no request gets the rows of another one, or none."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.cluster import SECRET
from tests.databases import postgres
from tests.proxies import Pooler
from tests.server_process import Serve, fresh_key, run_command

CLIENTS, TURNS = 4, 2


@pytest.mark.one_process("it has a pooler of its own")
def test_every_read_and_write_behind_a_transaction_pooler_is_that_of_its_request(serve: Serve) -> None:
    database = postgres().new_database()
    name = database.rsplit("/", 1)[1]
    with Pooler(postgres().port, name, size=2) as pooler:
        settings = {
            "DATABASE_URL": database.replace(f":{postgres().port}/", f":{pooler.port}/"),
            "CHATAPI_DATABASE_POOLING": "transaction",
            "CHATAPI_SECRET": SECRET,
        }
        server = serve(**settings, CHATAPI_RATE_LIMIT="0")

        def converse(number: int) -> None:
            key, more = fresh_key(f"pooled-{number}"), dict[str, str]()
            for turn in range(1, TURNS + 1):
                answer = server.send(f"Count to {number}", key=key, **more)
                assert (answer.status_code, answer.text.split()[-1:]) == (200, [str(number)]), answer.text
                session_id = answer.headers["X-Session-ID"]
                more = {"session_id": session_id}
                assert len(server.messages(session_id, key=key)) == 2 * turn
                listed = server.get("/api/sessions", key=key).json()["data"]
                assert [session["session_id"] for session in listed] == [session_id]
                counted = server.get("/api/usage", key=key).json()["totals"]["answers"]
                assert counted == turn

        with ThreadPoolExecutor(CLIENTS) as pool:
            assert list(pool.map(converse, range(1, CLIENTS + 1))) == [None] * CLIENTS
        counted = run_command("retention", "--dry-run", cwd=server.folder, settings=settings)
        assert counted.stdout == "0 sessions with 0 messages would be deleted.\n", counted.stderr
        assert server.stop() == 0
