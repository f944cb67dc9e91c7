"""The metrics of one process. The sums over all processes are the sums of the service.

Counted for each request, answer and commit, and never for each piece of text. Labels have bounded sets of values: route
templates, statuses, error codes, and models (`ModelLabels`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from chatapi.metrics.instruments import Counter, Gauge, Histogram, Instrument, Labels, Snapshot, snapshot
from chatapi.metrics.models import ModelLabels
from chatapi.model import Generation, Usage

PREFIX = "chatapi_"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
COMMIT_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
METHODS = frozenset({"GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS"})
UNMATCHED = "unmatched"  # as a route: a path that no route has
OK, FAILED = "ok", "failed"
Cost = Callable[[str, Usage], float | None]


class Metrics:
    """Counts what happens in one process.

    `cost` returns the cost of an answer of a model with this usage, in `currency`, or None where it has no price.
    """

    enabled = True  # False where no event is counted, so that none needs to be prepared

    def __init__(
        self, models: ModelLabels | None = None, cost: Cost = lambda *_: None, currency: str | None = None
    ) -> None:
        self._models = models or ModelLabels()
        self._cost = cost
        self._currency = currency or ""
        self._instruments: list[Instrument] = []
        self._requests = self._counter("http_requests", "HTTP requests by outcome.", "method", "route", "status")
        self._request_seconds = self._histogram(
            "http_request_duration_seconds",
            "Time from the head of a request to the end of its response.",
            SECONDS,
            "route",
        )
        self._rejections = self._counter("rejected_requests", "Requests that an error answered.", "code")
        self._rejections.start_at_zero("internal_error", "overloaded")
        self._answers = self._counter("answers", "Answers that ended.", "model", "status")
        self._failures = self._counter("answer_failures", "Answers that ended with an error.", "code")
        self._first_text = self._histogram(
            "first_text_seconds",
            "Time from the storing of a message to the first content of its answer.",
            SECONDS,
            "model",
        )
        self._gaps = self._histogram(
            "answer_longest_gap_seconds", "The longest pause between two pieces of content, of each answer.", SECONDS
        )
        self._answer_seconds = self._histogram("answer_duration_seconds", "Time that answers took.", SECONDS, "status")
        self._answer_bytes = self._counter("answer_bytes", "Size of the answers that ended, in bytes of UTF-8.")
        self._resumes = self._counter("resumes", "Reads of an answer from a position past its start.")
        self._replays = self._counter("replays", "Repeated messages that found their first answer.")
        self._tokens = self._counter("tokens", "Tokens of the answers that ended.", "model", "kind")
        self._costs = self._counter(
            "cost", "Cost of the answers that ended, at the operator's prices.", "model", "currency"
        )
        self._upstream = self._counter("upstream_requests", "Requests to the model API.", "model", "outcome")
        self._retries = self._counter("upstream_retries", "Requests to the model API that repeat a failed one.")
        self._fallbacks = self._counter(
            "upstream_fallbacks", "Requests that went to another upstream after a failure.", "upstream", "to"
        )
        self._upstream_answers = self._counter(
            "upstream_answers", "Answers that ended, by the upstream that gave them.", "upstream", "status"
        )
        self._upstream_tokens = self._counter(
            "upstream_tokens", "Tokens of the answers that ended, by upstream.", "upstream", "kind"
        )
        self._commits = self._counter("store_commits", "Batches that were written to the store.", "outcome")
        self._commits.start_at_zero(OK, FAILED)
        self._commit_seconds = self._histogram("store_commit_seconds", "Time of a write to the store.", COMMIT_SECONDS)
        self._committed = self._counter("store_committed", "Writes in the batches.", "kind")
        self._journal_failures = self._counter("journal_failures", "Writes to the journal that failed.")
        self._journal_sync_failures = self._counter("journal_sync_failures", "Syncs of the journal that failed.")
        self._expired = self._counter("expired_sessions", "Sessions that the retention job deleted.")
        self._lag = self._histogram(
            "event_loop_lag_seconds", "Delay of a timer: the time that all texts may be late.", LAG_SECONDS
        )

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        counter = Counter(PREFIX + name, help_text, labels)
        self._instruments.append(counter)
        return counter

    def _histogram(self, name: str, help_text: str, bounds: tuple[float, ...], *labels: str) -> Histogram:
        histogram = Histogram(PREFIX + name, help_text, bounds, labels)
        self._instruments.append(histogram)
        return histogram

    def gauge(
        self, name: str, help_text: str, read: Callable[[], float | Mapping[Labels, float]], *labels: str
    ) -> None:
        """Read a value at each scrape, on the event loop's thread. A mapping has a value for each set of labels."""
        self._instruments.append(Gauge(PREFIX + name, help_text, read, labels))

    def snapshot(self) -> list[Snapshot]:
        """Return a copy of all values."""
        return [snapshot(one) for one in self._instruments]

    # Events

    def request_ended(self, method: str, route: str, status: int, seconds: float, code: str | None) -> None:
        """Count a request whose response has ended; `code` is of the error that answered it."""
        route = route or UNMATCHED
        self._requests.add(method if method in METHODS else "other", route, str(status))
        self._request_seconds.observe(seconds, route)
        if code is not None:
            self._rejections.add(code)

    def answer_ended(self, generation: Generation, longest_gap: float | None = None) -> None:
        """Count an answer with its final status; `longest_gap` is in seconds."""
        if generation.ended_at is None:
            return
        model = self._models.of(generation.model)
        self._answers.add(model, generation.status.value)
        if generation.upstream is not None:
            self._upstream_answers.add(generation.upstream, generation.status.value)
        if generation.error_code is not None:
            self._failures.add(generation.error_code)
        if generation.first_token_at is not None:
            self._first_text.observe(max(0, generation.first_token_at - generation.created_at) / 1e6, model)
        if longest_gap is not None:
            self._gaps.observe(longest_gap)
        seconds = max(0, generation.ended_at - generation.created_at) / 1e6
        self._answer_seconds.observe(seconds, generation.status.value)
        self._answer_bytes.add(amount=generation.length or 0)
        if generation.usage is not None:
            self._add_tokens(generation.model, model, generation.usage, generation.upstream)

    def _add_tokens(self, model: str, label: str, usage: Usage, upstream: str | None) -> None:
        counts = {
            "input": usage.input_tokens,
            "output": usage.output_tokens,
            "reasoning": usage.reasoning_tokens,
            "cached": usage.cached_tokens,
        }
        for kind, count in counts.items():
            if count is not None and count > 0:
                self._tokens.add(label, kind, amount=count)
                if upstream is not None:
                    self._upstream_tokens.add(upstream, kind, amount=count)
        cost = self._cost(model, usage)
        if cost is not None:
            self._costs.add(label, self._currency, amount=cost)

    def resumed(self) -> None:
        """Count a read of an answer from a position past its start."""
        self._resumes.add()

    def replayed(self) -> None:
        """Count a repeated message that found its first answer."""
        self._replays.add()

    def upstream_responded(self, model: str, code: str | None = None) -> None:
        """Count a request to the model API; `code` is of the error with which it failed."""
        if code is None:
            self._models.learn(model)
        self._upstream.add(self._models.of(model), code or OK)

    def upstream_fell_back(self, upstream: str, to: str) -> None:
        """Count a request that goes to another upstream, because one failed."""
        self._fallbacks.add(upstream, to)

    def upstream_retried(self) -> None:
        """Count a repetition of a failed request to the model API."""
        self._retries.add()

    def committed(self, seconds: float, transactions: int, appends: int, failed: bool = False) -> None:
        """Count one write to the store: of so many transactions, and of the text of so many answers."""
        self._commits.add(FAILED if failed else OK)
        self._commit_seconds.observe(seconds)
        self._committed.add("transaction", amount=transactions)
        self._committed.add("text", amount=appends)

    def journal_failed(self) -> None:
        """Count a write to the journal that failed; its text is written again later."""
        self._journal_failures.add()

    def journal_sync_failed(self) -> None:
        """Count a sync of the journal that failed: a power cut would cost more than the last second of text."""
        self._journal_sync_failures.add()

    def sessions_expired(self, count: int) -> None:
        """Count sessions that the retention job has deleted."""
        self._expired.add(amount=count)

    def loop_lagged(self, seconds: float) -> None:
        """Count one measurement of the delay of the event loop."""
        self._lag.observe(seconds)
