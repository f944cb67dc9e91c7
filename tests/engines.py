"""Firefox and WebKit: a tab that runs functions, presses keys and clicks, without another package.

Firefox is driven over WebDriver BiDi (https://w3c.github.io/webdriver-bidi), which it speaks itself; WebKit over
WebDriver (https://w3c.github.io/webdriver) with Debian's webkit2gtk-driver, on a screen of Xvfb.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import requests
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.databases import free_port

SECONDS = 60  # of one command, and for the start of a browser
MINI_BROWSER = "/usr/lib/x86_64-linux-gnu/webkit2gtk-4.1/MiniBrowser"
PREFERENCES = {
    "browser.shell.checkDefaultBrowser": "false",
    "datareporting.policy.dataSubmissionEnabled": "false",
    "app.update.enabled": "false",
    "network.captive-portal-service.enabled": "false",
    "network.connectivity-service.enabled": "false",
    "remote.prefs.recommended": "true",
}
# A function gets its arguments as JSON and returns JSON: the two protocols have other forms for values.
CALL = "async (sent) => JSON.stringify((await ({function})(...JSON.parse(sent))) ?? null)"


class Tab(Protocol):
    """A tab of a browser."""

    def open(self, url: str) -> None:
        """Load a page."""

    def reload(self) -> None:
        """Load the page again."""

    def call(self, function: str, *arguments: Any) -> Any:
        """Call a JavaScript function, and return what it or its promise returns."""

    def press(self, *keys: str) -> None:
        """Press these keys together, the last one after the others. Keys that are not text are those of WebDriver."""

    def click(self, x: float, y: float) -> None:
        """Click at a position in the view."""

    def twin(self) -> Tab:
        """Open another tab."""

    def close(self) -> None:
        """Close the tab. The one before it is shown."""


def key_actions(keys: tuple[str, ...]) -> list[dict[str, str]]:
    """Return the actions that press keys together."""
    down = [{"type": "keyDown", "value": key} for key in keys]
    return [*down, *({"type": "keyUp", "value": key} for key in reversed(keys))]


def click_actions(x: float, y: float) -> list[dict[str, Any]]:
    """Return the actions that click at a position."""
    move = {"type": "pointerMove", "x": round(x), "y": round(y), "duration": 0}
    return [move, {"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]


class FirefoxTab:
    """A tab of Firefox."""

    def __init__(self, socket: ClientConnection, context: str, ids: Iterator[int]) -> None:
        self._socket, self._context, self._ids = socket, context, ids

    def _send(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer: dict[str, Any] = json.loads(self._socket.recv(SECONDS))
            if answer.get("id") != number:
                continue  # an event
            assert answer["type"] == "success", answer
            result: dict[str, Any] = answer["result"]
            return result

    def open(self, url: str) -> None:
        self._send("browsingContext.navigate", context=self._context, url=url, wait="complete")

    def reload(self) -> None:
        self._send("browsingContext.reload", context=self._context, wait="complete")

    def call(self, function: str, *arguments: Any) -> Any:
        answer = self._send(
            "script.callFunction",
            functionDeclaration=CALL.replace("{function}", function),
            awaitPromise=True,
            target={"context": self._context},
            arguments=[{"type": "string", "value": json.dumps(arguments)}],
        )
        assert answer["type"] == "success", answer["exceptionDetails"]["text"]
        return json.loads(answer["result"]["value"])

    def press(self, *keys: str) -> None:
        self._perform({"type": "key", "id": "keyboard", "actions": key_actions(keys)})

    def click(self, x: float, y: float) -> None:
        self._perform({"type": "pointer", "id": "mouse", "actions": click_actions(x, y)})

    def _perform(self, source: dict[str, Any]) -> None:
        self._send("input.performActions", context=self._context, actions=[source])

    def twin(self) -> FirefoxTab:
        made = self._send("browsingContext.create", type="tab")
        return FirefoxTab(self._socket, made["context"], self._ids)

    def close(self) -> None:
        self._send("browsingContext.close", context=self._context)


@contextmanager
def firefox(folder: Path) -> Iterator[Tab]:
    """Start Debian's Firefox without a window."""
    program = _find("firefox-esr")
    profile = folder / "profile"
    profile.mkdir()
    lines = [f'user_pref("{name}", {value});' for name, value in PREFERENCES.items()]
    (profile / "user.js").write_text("\n".join(lines))
    port = free_port()
    options = ["--headless", "--no-remote", "--profile", str(profile), f"--remote-debugging-port={port}"]
    with _running([program, *options], folder, HOME=str(folder)) as process:
        socket = _connect(f"ws://127.0.0.1:{port}/session", process)
        try:
            tab = FirefoxTab(socket, "", itertools.count(1))
            tab._send("session.new", capabilities={})
            context = tab._send("browsingContext.getTree", maxDepth=0)["contexts"][0]["context"]
            yield FirefoxTab(socket, context, itertools.count(1000))
        finally:
            socket.close()


def _connect(address: str, process: subprocess.Popen[bytes]) -> ClientConnection:
    end = time.monotonic() + SECONDS
    while True:
        assert process.poll() is None, "Firefox did not start"
        try:
            return connect(address, max_size=None, compression=None)
        except (OSError, InvalidStatus):
            assert time.monotonic() < end, "Firefox does not listen"
            time.sleep(0.1)


class WebKitTab:
    """A tab of WebKit. One WebDriver session has several: the commands of a tab first select it."""

    def __init__(self, session: str, window: str) -> None:
        self._session, self._window = session, window

    def _send(self, path: str, **parameters: Any) -> Any:
        self._post("window", handle=self._window)
        return self._post(path, **parameters)

    def _post(self, path: str, **parameters: Any) -> Any:
        answer = requests.post(f"{self._session}/{path}", json=parameters, timeout=SECONDS)
        assert answer.ok, answer.text
        return answer.json()["value"]

    def open(self, url: str) -> None:
        self._send("url", url=url)

    def reload(self) -> None:
        self._send("refresh")

    def call(self, function: str, *arguments: Any) -> Any:
        called = CALL.replace("{function}", function)
        script = f"({called})(arguments[0]).then(arguments[1], error => arguments[1]('{{\"failed\": true}}' + error))"
        found = self._send("execute/async", script=script, args=[json.dumps(arguments)])
        return json.loads(found)

    def press(self, *keys: str) -> None:
        self._send("actions", actions=[{"type": "key", "id": "keyboard", "actions": key_actions(keys)}])

    def click(self, x: float, y: float) -> None:
        mouse = {
            "type": "pointer",
            "id": "mouse",
            "parameters": {"pointerType": "mouse"},
            "actions": click_actions(x, y),
        }
        self._send("actions", actions=[mouse])

    def twin(self) -> WebKitTab:
        return WebKitTab(self._session, self._post("window/new", type="tab")["handle"])

    def close(self) -> None:
        self._post("window", handle=self._window)
        requests.delete(f"{self._session}/window", timeout=SECONDS).raise_for_status()


@contextmanager
def webkit(folder: Path) -> Iterator[Tab]:
    """Start Debian's WebKitGTK on a screen of its own."""
    driver, screen = _find("WebKitWebDriver"), _find("Xvfb")
    port, display = free_port(), f":{free_port() % 10_000 + 100}"
    display_command = [screen, display, "-screen", "0", "1280x900x24", "-nolisten", "tcp"]
    environment = {"DISPLAY": display, "HOME": str(folder), "LIBGL_ALWAYS_SOFTWARE": "1", "NO_AT_BRIDGE": "1"}
    with (
        _running(display_command, folder),
        _running([driver, f"--port={port}", "--host=127.0.0.1"], folder, **environment) as process,
    ):
        base = f"http://127.0.0.1:{port}"
        _wait_for_driver(base, process)
        options = {"binary": MINI_BROWSER, "args": ["--automation"]}
        asked = {"capabilities": {"alwaysMatch": {"webkitgtk:browserOptions": options, "timeouts": {"script": 60_000}}}}
        answer = requests.post(f"{base}/session", json=asked, timeout=SECONDS)
        assert answer.ok, answer.text
        session = f"{base}/session/{answer.json()['value']['sessionId']}"
        try:
            window = requests.get(f"{session}/window", timeout=SECONDS).json()["value"]
            yield WebKitTab(session, window)
        finally:
            requests.delete(session, timeout=SECONDS)


def _wait_for_driver(base: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + SECONDS
    while True:
        assert process.poll() is None, "WebKitWebDriver did not start"
        try:
            if requests.get(f"{base}/status", timeout=SECONDS).ok:
                return
        except requests.ConnectionError:
            assert time.monotonic() < end, "WebKitWebDriver does not listen"
        time.sleep(0.1)


def _find(program: str) -> str:
    found = shutil.which(program)
    assert found, f"{program} was not found. On Debian: apt install firefox-esr webkit2gtk-driver xvfb"
    return found


@contextmanager
def _running(command: list[str], folder: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the end of the block."""
    with (folder / f"{Path(command[0]).name}.log").open("wb") as log:
        process = subprocess.Popen(command, env=os.environ | environment, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


ENGINES = {"firefox": firefox, "webkit": webkit}
