"""Fixtures: the service as a process or as replicas, and the simulator as its upstream."""

from __future__ import annotations

import asyncio
import faulthandler
import fcntl
import gc
import subprocess
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import uvloop
from _pytest.faulthandler import fault_handler_stderr_fd_key
from playwright.sync_api import Browser

from chatapi.simulator import Gate, Simulator, running
from tests import databases
from tests.browser import SharedTab, Visitor, browsing
from tests.chat_page import ChatPage, OpenChat
from tests.cluster import Cluster
from tests.environment import leave_users_environment
from tests.fork_server import fork_server
from tests.forked_workers import ForkedWorkers
from tests.server_logs import excerpts, log_lengths
from tests.server_process import PROJECT, Serve, Service, fresh_key

gc.disable()  # until the end of the collection: modules and tests stay
FIGURES = "figures"
BROWSER_FILES = pytest.StashKey[set[Path]]()  # with tests that visit the page
LOG_LENGTHS = pytest.StashKey[dict[int, int]]()  # when the test began
RUN = PROJECT / "run"
USERS_ENVIRONMENT = pytest.StashKey[dict[str, str]]()
# Files that take longest, from five seconds on. They start first, so that no worker is left alone with one at the end.
# Those that visit the page come in a row, with the short ones, so that a worker starts one browser.
LONGEST = (
    *("test_page.py", "test_page_trouble.py", "test_page_barriers.py", "test_page_comfort.py", "test_page_hostile.py"),
    *("test_markdown.py", "test_page_demo.py", "test_page_import.py", "test_page_speed.py", "test_browser.py"),
    *("test_reference_page.py", "test_web.py"),
    *("test_setup.py", "test_openai_chat.py", "test_upstream_faults.py", "test_doctor.py", "test_openapi.py"),
    *("test_kill_replicas.py", "test_replicas.py", "test_migrate.py", "test_store_faults.py", "test_responses.py"),
    *("test_crosstalk.py", "test_admission.py", "test_fencing.py", "test_bad_input.py", "test_chat.py"),
    *("test_promises.py", "test_store.py", "test_bus.py", "test_vercel.py", "test_secrets.py", "test_websocket.py"),
    *("test_workers.py", "test_limits.py", "test_upgrades.py", "test_connections.py", "test_every_cut.py"),
    *("test_queue.py", "test_store_machine.py", "test_responses_clients.py", "test_sessions.py"),
)
ONE_PROCESS, REPLICAS = "one-process", "replicas"
DEPLOYMENTS: dict[str, Callable[..., Service]] = {ONE_PROCESS: Service, REPLICAS: Cluster}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--workers", type=int, default=0, help="run the tests in this many processes")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test of the service on each deployment, unless it is marked `one_process`."""
    if "deploy" in metafunc.fixturenames:
        one = metafunc.definition.get_closest_marker("one_process")
        names = [ONE_PROCESS] if one else list(DEPLOYMENTS)
        metafunc.parametrize("deploy", names, indirect=True, scope="session")


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run async tests on asyncio's loop, and those of the HTTP client on that of servers, uvloop, too."""
    if item.path.name.startswith("test_http_client"):
        return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Drop most cases of tables on replicas, and order the rest."""
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items[:] = sorted(without_repeated_tables(items), key=lambda item: ranks.get(item.path.name, len(ranks)))


def without_repeated_tables(items: list[pytest.Item]) -> list[pytest.Item]:
    """Drop the cases on replicas of each test marked `table`, but for its first and its last."""
    tables: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if isinstance(item, pytest.Function) and item.get_closest_marker("table") and REPLICAS in deployment_of(item):
            tables[item.nodeid.partition("[")[0]].append(item)
    dropped = {item for cases in tables.values() for item in cases[1:-1]}
    return [item for item in items if item not in dropped]


def deployment_of(item: pytest.Function) -> str:
    """Return the deployment that a test runs on, or nothing if it runs on none."""
    return str(item.callspec.params.get("deploy", "")) if hasattr(item, "callspec") else ""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Give a test that is marked `hangs_after` its own limit instead of `faulthandler_timeout`."""
    item.stash[LOG_LENGTHS] = log_lengths()
    if mark := item.get_closest_marker("hangs_after"):
        (seconds,) = mark.args
        faulthandler.dump_traceback_later(seconds, exit=True, file=item.config.stash[fault_handler_stderr_fd_key])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add an excerpt of the log of each server that the test used to the report of a failure."""
    report = yield
    if report.failed:
        report.sections += excerpts(item.stash.get(LOG_LENGTHS, {}))
    return report


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """An upstream of the test's own. It answers as the demo does unless the test sets its `script`."""
    with running(Simulator()) as simulator:
        yield simulator


def pytest_collection_finish(session: pytest.Session) -> None:
    """Install the Node packages and the browser that the selected tests use. Both are looked for first."""
    gc.enable()
    gc.freeze()  # no garbage collection looks at all modules and tests again
    session.stash[BROWSER_FILES] = {item.path for item in session.items if visits_the_page(item)}
    needed = {
        part
        for item in session.items
        for part in (
            *(["node"] if item.get_closest_marker("needs_node") else ()),
            *(["chromium"] if visits_the_page(item) else ()),
        )
    }
    if needed and not session.config.option.collectonly:
        with (PROJECT / ".setup-lock").open("w") as lock:  # two runs may come here side by side
            fcntl.flock(lock, fcntl.LOCK_EX)
            environment = session.config.stash[USERS_ENVIRONMENT]  # packages may come through a proxy
            subprocess.run([RUN, "setup", *sorted(needed)], check=True, env=environment)


def start_shared() -> None:
    """Start all that workers share. The fork server imports the service while the databases start."""
    fork_server()
    databases.start_shared()


class FailuresAtOnce:
    """Print each failure when it happens; at the end only the list of names."""

    def __init__(self, terminal: Any) -> None:
        self._terminal = terminal

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._terminal.write_line("")
            self._terminal.write_line(f"FAILED {report.nodeid} ({report.when})", red=True)
            report.toterminal(self._terminal._tw)
            for title, text in report.sections:
                self._terminal.write_sep("-", title)
                self._terminal.write_line(text)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        session.config.option.tbstyle = "no"


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Leave the user's environment, report failures at once, where there is a terminal, and run tests in workers."""
    config.stash[USERS_ENVIRONMENT] = leave_users_environment()
    if terminal := config.pluginmanager.getplugin("terminalreporter"):
        config.pluginmanager.register(FailuresAtOnce(terminal), "failures-at-once")
    if workers := config.option.workers:
        config.pluginmanager.register(ForkedWorkers(workers, start_shared, visits_the_page))


@pytest.fixture(scope="session")
def deploy(request: pytest.FixtureRequest) -> Callable[..., Service]:
    """The class of the deployment that this run of a test is for."""
    return DEPLOYMENTS[request.param]


@pytest.fixture
def serve(simulator: Simulator, tmp_path: Path, deploy: Callable[..., Service]) -> Iterator[Serve]:
    """Start a server: `serve(CHATAPI_RATE_LIMIT="2")`. Each is stopped at the end, and searched for keys."""
    started: list[Service] = []

    def start(**environment: Any) -> Service:
        folder = tmp_path / f"server-{len(started)}"
        folder.mkdir()
        started.append(deploy(folder, environment.pop("upstream_url", simulator.url), **environment))
        return started[-1].start()

    yield start
    for service in started:
        service.stop()
        service.release()


@pytest.fixture
def service(serve: Serve) -> Service:
    """A server with its default settings."""
    return serve()


@pytest.fixture(scope="module")
def upstream() -> Iterator[Simulator]:
    """A module's upstream. A test may set its `script`, which is reset after the test."""
    with running(Simulator()) as simulator:
        yield simulator


@pytest.fixture(autouse=True)
def reset_upstream(request: pytest.FixtureRequest) -> Iterator[None]:
    """Reset the `script` of the module's upstream after each test."""
    yield
    if "upstream" in request.fixturenames:
        request.getfixturevalue("upstream").script = None


@pytest.fixture(scope="module")
def serve_module(
    upstream: Simulator, tmp_path_factory: pytest.TempPathFactory, deploy: Callable[..., Service]
) -> Iterator[Serve]:
    """Start a server with these settings for a whole module."""
    started: list[Service] = []

    def start(**environment: Any) -> Service:
        started.append(deploy(tmp_path_factory.mktemp("module"), upstream.url, **environment))
        return started[-1].start()

    yield start
    assert [service.stop() for service in started] == [0] * len(started)
    for service in started:
        service.release()


@pytest.fixture
def figures(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Record the figures of a campaign, a line that is printed at the end of the run."""
    return lambda line: record_property(FIGURES, line)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the figures of all campaigns."""
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, value in report.user_properties if report.when == "call" else ():
            if name == FIGURES:
                terminalreporter.write_line(f"{report.nodeid}: {value}")


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    """A key that no other test uses."""
    return fresh_key(request.node.name)


@pytest.fixture
def openai_client() -> Iterator[Callable[[Service, str], Any]]:
    """Make clients of OpenAI's, which retry nothing and are closed at the end of the test."""
    from tests.openai_clients import openai_client  # here: OpenAI's package takes long to import

    with ExitStack() as stack:
        yield lambda service, key: stack.enter_context(openai_client(f"{service.url}/v1", key, max_retries=0))


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A gate at which an answer waits for the test. It opens at the end of the test."""
    gate = Gate()
    yield gate
    gate.open()


@pytest.fixture(scope="session")
def shared_simulator() -> Iterator[Simulator]:
    """An upstream for tests that do not set its script."""
    with running(Simulator()) as simulator:
        yield simulator


@pytest.fixture(scope="session")
def shared(
    shared_simulator: Simulator, tmp_path_factory: pytest.TempPathFactory, deploy: Callable[..., Service]
) -> Iterator[Service]:
    """A server for tests that neither stop it nor need an empty one."""
    folder = tmp_path_factory.mktemp("shared")
    service = deploy(folder, shared_simulator.url, CHATAPI_RATE_LIMIT="0").start()
    yield service
    service.stop()
    service.release()


@pytest.fixture(scope="session")
def page_upstream() -> Iterator[Simulator]:
    """The upstream of `server`. A module names it `upstream`, so that its `script` is reset after each test."""
    with running(Simulator()) as simulator:
        yield simulator


@pytest.fixture(scope="session")
def server(
    page_upstream: Simulator, tmp_path_factory: pytest.TempPathFactory, deploy: Callable[..., Service]
) -> Iterator[Service]:
    """A server for all modules of tests that visit the page: a tab loads and compiles the page of another one again."""
    service = deploy(tmp_path_factory.mktemp("page"), page_upstream.url, CHATAPI_RATE_LIMIT="0").start()
    yield service
    assert service.stop() == 0
    service.release()


@pytest.fixture(scope="module")
def browser() -> Browser:
    """Chromium. Playwright's event loop runs on this thread meanwhile, so a module of tests that visit the page has no
    asynchronous ones.
    """
    return OPEN_BROWSER.get()


class OpenBrowser:
    """Chromium from the first test of a module that visits the page to the end of the last of such modules in a row:
    it and Playwright's driver take 1.3 s of CPU time to start.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._browser: Browser | None = None
        self._tab: SharedTab | None = None

    def get(self) -> Browser:
        """Return the browser; start it first if none runs."""
        if self._browser is None:
            self._browser = self._stack.enter_context(browsing())
        return self._browser

    def get_tab(self) -> SharedTab:
        """Return the tab for one visitor at a time."""
        self._tab = self._tab or SharedTab(self.get())
        return self._tab

    def close(self) -> None:
        """Close the browser, if one runs."""
        if self._tab is not None:
            self._tab.close()
        self._browser = self._tab = None
        self._stack.close()


OPEN_BROWSER = OpenBrowser()


def visits_the_page(item: pytest.Item) -> bool:
    """Tell whether a test uses the browser."""
    return "browser" in getattr(item, "fixturenames", ())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None]:
    """Close the browser before a module that has no test for it: its tests may be asynchronous."""
    yield
    if nextitem is None or (nextitem.path != item.path and nextitem.path not in item.session.stash[BROWSER_FILES]):
        OPEN_BROWSER.close()


def pytest_unconfigure() -> None:
    """Close the browser at the end of a run that was cut short."""
    OPEN_BROWSER.close()


@pytest.fixture(scope="module")
def shared_tab(browser: Browser) -> SharedTab:
    """A tab for one visitor at a time, as long as the browser runs."""
    return OPEN_BROWSER.get_tab()


@pytest.fixture
def new_visitor(browser: Browser, shared_tab: SharedTab) -> Iterator[Callable[..., Visitor]]:
    """Bring visitors with held timers; at the end each one is checked and leaves.

    The first one without options gets the shared tab, others get browser profiles of their own.
    """
    visitors: list[Visitor] = []

    def come(**options: Any) -> Visitor:
        shared = shared_tab if shared_tab.is_free and not options else None
        visitors.append(Visitor(browser, shared, **options))
        visitors[-1].hold_timers()
        return visitors[-1]

    yield come
    for visitor in visitors:
        visitor.close()
    for visitor in visitors:
        visitor.check()


@pytest.fixture
def visitor(new_visitor: Callable[..., Visitor]) -> Visitor:
    """A visitor with a browser."""
    return new_visitor()


@pytest.fixture
def open_chat(server: Service, visitor: Visitor, key: str) -> OpenChat:
    """Open the page of the module's server at a chat in which another client has sent these messages."""
    return lambda *texts: ChatPage.in_chat(visitor, server, key, *texts)
