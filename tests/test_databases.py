"""A database that tests use one after the other is, for each of them, like a new one."""

from __future__ import annotations

import asyncpg
import pytest

from tests.databases import Postgres, postgres

INSERT = (
    "INSERT INTO session (id, developer_message, metadata, message_count, created_at, updated_at) "
    "SELECT 'session-' || number, repeat('x', {length}), '', 0, 1, 1 FROM generate_series(1, {rows}) number"
)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Postgres:
    """The PostgreSQL of all tests, which has lent nothing yet."""
    monkeypatch.setattr(postgres(), "_free", [])
    return postgres()


def lent_after(server: Postgres, url: str, change: str) -> str:
    """Change a database that was given back; return the URL of the next one, which has every table and no row."""
    server.run(change, url.rpartition("/")[2])
    with server.lent_database() as following:
        name = following.rpartition("/")[2]
        tables = server.run("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1", name).split()
        assert (
            tables
            == server.run(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1", server.template
            ).split()
        )
        rows = {table: server.run(f"SELECT count(*) FROM {table}", name) for table in tables}
        assert {table for table, count in rows.items() if count != "0"} == {"migration"}
    return following


@pytest.mark.parametrize(("rows", "length"), [(2, 10), (2_000, 1_000)], ids=["few", "many"])
def test_a_lent_database_is_used_again_without_its_rows(server: Postgres, rows: int, length: int) -> None:
    with server.lent_database() as url, server.lent_database() as other:
        assert url != other, "it is lent to one test at a time"
    server._free.remove(other.rpartition("/")[2])
    assert lent_after(server, url, INSERT.format(rows=rows, length=length)) == url


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE session ADD mood TEXT",
        "ALTER TABLE session ALTER metadata DROP NOT NULL",
        "DROP INDEX session_newest",
        "CREATE FUNCTION spoil() RETURNS INTEGER LANGUAGE SQL AS 'SELECT 1'",
        "REVOKE ALL ON session FROM PUBLIC",
        "DELETE FROM migration WHERE number = 1",
    ],
)
def test_one_with_another_schema_is_not_lent_again(server: Postgres, change: str) -> None:
    with server.lent_database() as url:
        pass
    assert lent_after(server, url, change) != url


async def test_what_a_killed_server_had_begun_does_not_reach_the_next_test(server: Postgres) -> None:
    with server.lent_database() as url:
        left = await asyncpg.connect(url)
        await left.execute("BEGIN;" + INSERT.format(rows=1, length=1))
    with server.lent_database() as following:
        assert following == url
        with pytest.raises((asyncpg.PostgresError, OSError)):
            await left.execute("COMMIT")
        assert server.run("SELECT count(*) FROM session", url.rpartition("/")[2]) == "0"
    left.terminate()
