"""A local server that speaks OpenAI's protocol, for the demo, the tests and the benchmarks.

It shares no code with the service, so that the writer and the reader of the protocol cannot share a mistake. No module
of this package imports another module of `chatapi`.

    with running(Simulator(answer("Hello"))) as simulator:
        client = openai.OpenAI(base_url=simulator.url, api_key="sk-proj-any")
        ...
        assert simulator.wait_for_requests(1)[0].body["stream"] is True

Reading order: `wire` (bytes), `scripts` (answers and faults to play), `response_events`, `response_request` and
`responses` (OpenAI's other protocol), `demo` (answers without a script), `record` (received requests), `server`.
Ready-made scripts are functions in `scripts`.
"""

from __future__ import annotations

from . import responses, scripts
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
    "responses",
    "running",
    "scripts",
]
