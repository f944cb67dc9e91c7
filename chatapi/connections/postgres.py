"""Connections to PostgreSQL, with bounds on every wait, and sentences for what can be wrong with the first one."""

from __future__ import annotations

from typing import Any, TypeAlias

import asyncpg

from chatapi.settings import SettingsError

OLDEST_POSTGRES = 14
CONNECT_SECONDS = 5.0
JOB_SECONDS = 10.0  # the longest that anything may wait for the database, its turn included
LOCK_MILLISECONDS = 2000  # how long to wait for a row that another transaction holds: a paused replica's, say
CANNOT = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
Connection: TypeAlias = Any  # asyncpg.Connection; the package brings no types


async def connect_to(url: str, transaction_pooling: bool, idle_seconds: float = JOB_SECONDS) -> Connection:
    """A connection with bounds on every wait; a transaction that stands still for `idle_seconds` is broken off."""
    bounds = {
        "application_name": "chatapi",
        "jit": "off",  # our statements are short; compiling them takes longer than they do
        "lock_timeout": str(LOCK_MILLISECONDS),
        "statement_timeout": str(int(JOB_SECONDS * 1000)),
        "idle_in_transaction_session_timeout": str(int(idle_seconds * 1000)),  # a paused replica lets go of its rows
    }
    return await asyncpg.connect(
        url,
        timeout=CONNECT_SECONDS,
        statement_cache_size=0 if transaction_pooling else 256,
        server_settings={} if transaction_pooling else bounds,
    )


async def first_connection(url: str, transaction_pooling: bool) -> Connection:
    """A connection to a server that we can use.

    Raises:
        SettingsError: there is none; the message says what to change.
    """
    try:
        connection = await connect_to(url, transaction_pooling)
    except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError) as error:
        raise SettingsError("DATABASE_URL: PostgreSQL refuses the user or the password. Correct them.") from error
    except asyncpg.InvalidCatalogNameError as error:
        raise SettingsError("DATABASE_URL: that server has no such database. Make it (createdb NAME).") from error
    except asyncpg.TooManyConnectionsError as error:
        raise SettingsError(
            "DATABASE_URL: the server has no connection left. Raise its max_connections, lower "
            "CHATAPI_DATABASE_CONNECTIONS, or put PgBouncer in between."
        ) from error
    except CANNOT as error:
        reason = str(error) or type(error).__name__
        raise SettingsError(
            f"DATABASE_URL: no PostgreSQL can be reached there: {reason}. Start it, or correct the URL."
        ) from error
    except (ValueError, asyncpg.ClientConfigurationError):  # its own message may repeat the password
        raise SettingsError(
            "DATABASE_URL: PostgreSQL's client cannot read it. Write postgresql://USER:PASSWORD@HOST:PORT/NAME, with "
            "%-escapes where USER or PASSWORD have other characters than letters and digits."
        ) from None
    version = connection.get_server_version().major
    if version < OLDEST_POSTGRES:
        connection.terminate()
        raise SettingsError(f"DATABASE_URL: that is PostgreSQL {version}; {OLDEST_POSTGRES} or newer is needed.")
    return connection
