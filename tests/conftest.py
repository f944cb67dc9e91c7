"""Fixtures: the service as a process, and the simulator as its upstream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from chatapi.simulator import Gate, Simulator, running
from tests.browser import Visitor, browsing
from tests.cluster import Cluster
from tests.server_process import Serve, Service, fresh_key


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """An upstream of the test's own; set its `script` to have it answer otherwise than the demo does."""
    with running(Simulator()) as simulator:
        yield simulator


FIGURES = "figures"
LONGEST = {"test_kill_replicas.py", "test_kill.py", "test_crosstalk.py", "test_setup.py", "test_store_machine.py"}
DEPLOYMENTS: dict[str, Callable[..., Service]] = {"one-process": Service, "replicas": Cluster}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test of the service runs on each deployment, but for those that are marked as being about one process."""
    if "deploy" in metafunc.fixturenames:
        one = metafunc.definition.get_closest_marker("one_process")
        names = ["one-process"] if one else list(DEPLOYMENTS)
        metafunc.parametrize("deploy", names, indirect=True, scope="session")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest in one piece, so that no worker is left alone with it at the end."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session")
def deploy(request: pytest.FixtureRequest) -> Callable[..., Service]:
    """What the service is, in this run of a test."""
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


@pytest.fixture
def service(serve: Serve) -> Service:
    """A server with its default settings."""
    return serve()


@pytest.fixture(scope="module")
def upstream() -> Iterator[Simulator]:
    """A module's upstream. Each test may set its `script`; the next one finds the demo again."""
    with running(Simulator()) as simulator:
        yield simulator


@pytest.fixture(autouse=True)
def demo_again(request: pytest.FixtureRequest) -> Iterator[None]:
    """Take back what a test had its module's upstream answer."""
    yield
    if "upstream" in request.fixturenames:
        request.getfixturevalue("upstream").script = None


@pytest.fixture(scope="module")
def serve_module(
    upstream: Simulator, tmp_path_factory: pytest.TempPathFactory, deploy: Callable[..., Service]
) -> Iterator[Serve]:
    """Start a server for a whole module, with these settings; a start costs a second."""
    started: list[Service] = []

    def start(**environment: Any) -> Service:
        started.append(deploy(tmp_path_factory.mktemp("module"), upstream.url, **environment))
        return started[-1].start()

    yield start
    assert [service.stop() for service in started] == [0] * len(started)


@pytest.fixture
def figures(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """What a campaign found, in a line, to be printed when all tests are through."""
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
def gate() -> Iterator[Gate]:
    """Where an answer waits for the test; nothing is left waiting at its end."""
    gate = Gate()
    yield gate
    gate.open()


@pytest.fixture(scope="session")
def shared_simulator() -> Iterator[Simulator]:
    """An upstream for tests that only talk to it and leave its script alone."""
    with running(Simulator()) as simulator:
        yield simulator


@pytest.fixture(scope="session")
def shared(
    shared_simulator: Simulator, tmp_path_factory: pytest.TempPathFactory, deploy: Callable[..., Service]
) -> Iterator[Service]:
    """A server for tests that neither stop it nor fill it; it spares each of them a start."""
    folder = tmp_path_factory.mktemp("shared")
    service = deploy(folder, shared_simulator.url, CHATAPI_RATE_LIMIT="0").start()
    yield service
    service.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A module's Chromium. Playwright's event loop runs on this thread meanwhile, so a module of tests that visit the
    page has no asynchronous ones.
    """
    with browsing() as browser:
        yield browser


@pytest.fixture
def new_visitor(browser: Browser) -> Iterator[Callable[..., Visitor]]:
    """Let somebody come, with these options of a browser context; at the end each is checked, and leaves."""
    visitors: list[Visitor] = []

    def come(**options: Any) -> Visitor:
        visitors.append(Visitor(browser, **options))
        return visitors[-1]

    yield come
    for visitor in visitors:
        visitor.close()
    for visitor in visitors:
        visitor.check()


@pytest.fixture
def visitor(new_visitor: Callable[..., Visitor]) -> Visitor:
    """Somebody with a browser."""
    return new_visitor()
