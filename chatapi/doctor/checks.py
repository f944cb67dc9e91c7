"""The checks that the settings need, and their order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import aclosing
from urllib.parse import unquote, urlsplit

from chatapi.doctor import limits, proxy, sqlite, upstream
from chatapi.doctor.finding import Check, Finding, Level, Reporter
from chatapi.doctor.upstream import ModelAPI
from chatapi.settings import Settings

CHECK_SECONDS = 30.0  # maximum for all checks of one subject; each check has shorter timeouts
HIDDEN = "[hidden]"


def run_checks(settings: Settings, url: str | None, report: Callable[[Finding], None]) -> bool:
    """Report each finding as soon as it is known; return whether none is a failure. Findings contain no secret.

    Raises:
        SettingsError: the file of upstreams is wrong. Nothing was checked.
    """
    apis = upstream.model_apis(settings)
    with asyncio.Runner() as runner:
        return runner.run(_run_checks(settings, apis, url, report))


async def _run_checks(
    settings: Settings, apis: list[ModelAPI], url: str | None, report: Callable[[Finding], None]
) -> bool:
    hide = _secret_filter(settings, apis)
    well = True
    report(Reporter("Settings").ok(_describe(settings, apis)))
    for about, check in _checks(settings, apis, url):
        async with aclosing(_bounded(about, check)) as findings:
            async for found in findings:
                well &= found.level is not Level.FAILURE
                report(Finding(found.level, found.about, hide(_one_line(found.sentence))))
    return well


def _describe(settings: Settings, apis: list[ModelAPI]) -> str:
    where = "PostgreSQL" if settings.uses_postgres else f"the SQLite file {settings.database_path}"
    redis = "Redis" if settings.redis_url else "no Redis"
    models = f"the model API at {apis[0].base_url}"
    if settings.upstreams is not None:
        models = f"{len(apis)} model API{'s' if len(apis) > 1 else ''} in {settings.upstreams}"
    return f"they are valid: {where}, {redis}, {models}."


def _checks(settings: Settings, apis: list[ModelAPI], url: str | None) -> Iterator[tuple[str, Check]]:
    if settings.uses_postgres:
        yield "PostgreSQL", _postgres(settings)
    else:
        yield "SQLite", sqlite.check(settings)
    if settings.redis_url is not None:
        yield "Redis", _redis(settings.redis_url)
    for api in apis:
        yield api.about, upstream.check(api)
    yield "System", limits.check(settings)
    if url is not None:
        yield "Proxy", proxy.check(url)


async def _postgres(settings: Settings) -> Check:
    try:
        from chatapi.doctor import postgres  # here: only those who use it need its package
    except ModuleNotFoundError as missing:
        yield _package_missing("PostgreSQL", missing)
        return
    async for finding in postgres.check(settings):
        yield finding


async def _redis(url: str) -> Check:
    try:
        from chatapi.doctor import redis  # here, as above
    except ModuleNotFoundError as missing:
        yield _package_missing("Redis", missing)
        return
    async for finding in redis.check(url):
        yield finding


def _package_missing(about: str, missing: ModuleNotFoundError) -> Finding:
    return Reporter(about).failure(
        f"the package {missing.name} is not installed for this Python. "
        "Install it with the others: pip install -r requirements-replicas.txt"
    )


async def _bounded(about: str, check: Check) -> Check:
    """Yield the findings of a check, and a failure if it raises or takes too long."""
    until = asyncio.get_running_loop().time() + CHECK_SECONDS
    while True:
        try:
            async with asyncio.timeout_at(until):
                finding = await anext(check)
        except StopAsyncIteration:
            return
        except TimeoutError:
            yield Reporter(about).failure("it did not answer in time. Check whether it is overloaded or out of order.")
            return
        except Exception as error:  # reported, and the other checks are made
            reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
            yield Reporter(about).failure(f"the check was not completed: {reason}.")
            return
        yield finding


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _secret_filter(settings: Settings, apis: list[ModelAPI]) -> Callable[[str], str]:
    """Return a function that removes the secrets of the settings from a text: a server's message may contain any."""
    secrets = {settings.secret, *(value.removeprefix("Bearer ") for api in apis for _, value in api.headers)}
    for url in (settings.database_url, settings.redis_url or ""):
        try:
            password = urlsplit(url).password
        except ValueError:
            continue
        secrets |= {password, unquote(password or "")}
    # A shorter one may be a common word: hiding it would reveal it, and make sentences unreadable.
    known = sorted((secret for secret in secrets if secret and len(secret) >= 6), key=len, reverse=True)

    def hide(text: str) -> str:
        for secret in known:
            text = text.replace(secret, HIDDEN)
        return text

    return hide
