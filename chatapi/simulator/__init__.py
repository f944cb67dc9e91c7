"""A local server that speaks OpenAI's protocol, for the demo, the tests and the benchmarks.

It shares no code with the rest of the project, on purpose: a mistake in how we read the protocol must not be hidden by
the same mistake in how it is written here. Nothing in this package imports another module of `chatapi`.

    with running(Simulator(answer("Hello"))) as simulator:
        client = openai.OpenAI(base_url=simulator.url, api_key="sk-proj-any")
        ...
        assert simulator.wait_for_requests(1)[0].body["stream"] is True

Reading order: `wire` (what the bytes are), `scripts` (what can be played), `demo` (what is said without a script),
`record` (what was seen), `server` (who plays it). Ready-made scripts are functions of `scripts`.
"""

from __future__ import annotations

from . import scripts
from .record import ReceivedRequest
from .scripts import Cut, Gate, HalfClose, Hang, Pause, Refusal, Responder, Script, Send, Step, Wait, answer, refuse
from .server import Simulator, running
from .wire import Chunks, Usage

__all__ = [
    "Chunks",
    "Cut",
    "Gate",
    "HalfClose",
    "Hang",
    "Pause",
    "ReceivedRequest",
    "Refusal",
    "Responder",
    "Script",
    "Send",
    "Simulator",
    "Step",
    "Usage",
    "Wait",
    "answer",
    "refuse",
    "running",
    "scripts",
]
