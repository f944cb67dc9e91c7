"""Limits of the operating system on this process."""

from __future__ import annotations

import resource

from chatapi.doctor.finding import Check, Reporter
from chatapi.settings import Settings

SPARE_FILES = 100  # the store, the log, the listener, waiting connections, other routes
FILES_PER_ANSWER = 2  # a connection to the upstream, and one to a client


async def check(settings: Settings) -> Check:
    """Compare the limit of open files with the limit of running answers."""
    files = Reporter("Open files")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = "any number" if soft == resource.RLIM_INFINITY else f"{soft:,}"
    if not settings.max_generations:
        yield files.warning(
            f"CHATAPI_MAX_GENERATIONS is 0, so answers are not limited, and this process may open {allowed} files. "
            "Set it to at most half of that."
        )
        return
    needed = settings.max_generations * FILES_PER_ANSWER + SPARE_FILES
    if settings.uses_postgres:
        needed += settings.database_connections * 2
    if soft == resource.RLIM_INFINITY or soft >= needed:
        yield files.ok(f"{allowed} are allowed, and {settings.max_generations:,} answers want {needed:,}.")
        return
    more = f"ulimit -n {needed}" if hard in {resource.RLIM_INFINITY} or hard >= needed else "the system's hard limit"
    yield files.warning(
        f"{allowed} are allowed, and {settings.max_generations:,} answers at once want {needed:,}. Raise it ({more}), "
        f"or set CHATAPI_MAX_GENERATIONS to {max(1, (soft - SPARE_FILES) // FILES_PER_ANSWER)}."
    )
