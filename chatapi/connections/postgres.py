"""Connections to PostgreSQL, with a limit on every wait, and an error message for each way that the first can fail."""

from __future__ import annotations

from typing import Any, TypeAlias

import asyncpg

from chatapi.settings import SettingsError

OLDEST_POSTGRES = 14
CONNECT_SECONDS = 5.0
JOB_SECONDS = 10.0  # maximum wait for the database, including the queue
LOCK_MILLISECONDS = 2000  # maximum wait for a row that another transaction has locked
CANNOT = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
Connection: TypeAlias = Any  # asyncpg.Connection; the package brings no types


async def connect_to(url: str, transaction_pooling: bool, idle_seconds: float = JOB_SECONDS) -> Connection:
    """Open a connection with a limit on every wait. A transaction that is idle for `idle_seconds` is aborted."""
    bounds = {
        "application_name": "chatapi",
        "jit": "off",  # our statements are short; compiling them takes longer than running them
        "lock_timeout": str(LOCK_MILLISECONDS),
        "statement_timeout": str(int(JOB_SECONDS * 1000)),
        "idle_in_transaction_session_timeout": str(int(idle_seconds * 1000)),  # a paused replica unlocks its rows
    }
    return await asyncpg.connect(
        url,
        timeout=CONNECT_SECONDS,
        statement_cache_size=0 if transaction_pooling else 256,
        server_settings={} if transaction_pooling else bounds,
    )


async def first_connection(url: str, transaction_pooling: bool) -> Connection:
    """Open a connection, and check that the server is usable.

    Raises:
        SettingsError: It is not.
    """
    try:
        connection = await connect_to(url, transaction_pooling)
    except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError) as error:
        raise SettingsError("DATABASE_URL: PostgreSQL refuses the user or the password. Correct them.") from error
    except asyncpg.InvalidCatalogNameError as error:
        raise SettingsError("DATABASE_URL: the server has no such database. Create it (createdb NAME).") from error
    except asyncpg.TooManyConnectionsError as error:
        raise SettingsError(
            "DATABASE_URL: the server has no connection left. Raise its max_connections, lower "
            "CHATAPI_DATABASE_CONNECTIONS, or use PgBouncer."
        ) from error
    except CANNOT as error:
        reason = str(error) or type(error).__name__
        raise SettingsError(
            f"DATABASE_URL: PostgreSQL cannot be reached there: {reason}. Start it, or correct the URL."
        ) from error
    except (ValueError, asyncpg.ClientConfigurationError):  # its message may contain the password
        raise SettingsError(
            "DATABASE_URL must be postgresql://USER:PASSWORD@HOST:PORT/NAME, with %-escapes where USER or PASSWORD "
            "contain characters other than letters and digits."
        ) from None
    version = connection.get_server_version().major
    if version < OLDEST_POSTGRES:
        connection.terminate()
        raise SettingsError(f"DATABASE_URL: PostgreSQL must be {OLDEST_POSTGRES} or newer; this server is {version}.")
    return connection
