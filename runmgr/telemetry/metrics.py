"""`Metrics`: what supervisors do, for Prometheus or whatever else reads OpenTelemetry.

Only OpenTelemetry's API is used; where its numbers go is its SDK's business, and the program's. Names and units are those of the
GenAI semantic conventions where they have any (``gen_ai.client.*``), and ``runmgr.*`` where they have none.

What happens is counted where it happens, in the supervisor's thread; the counts, and how things stand, are asked for when somebody
collects (`runmgr.telemetry.gauges`). Only histograms are told each value at once, for nobody can observe them later. A supervisor that nobody watches does nothing for this.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from opentelemetry.metrics import CallbackOptions, Observation, get_meter_provider

from runmgr import __version__
from runmgr.models.instrumented import InstrumentedModel
from runmgr.records.events import RequestFailed, RequestSent, RequestSettled, RunEnded

from .gauges import COUNTED, GAUGES, Attributes, Gauges
from .labels import Labels

if TYPE_CHECKING:
    from typing import TypeAlias

    from opentelemetry.metrics import MeterProvider

    from runmgr.supervisor import Supervisor

    Counts: TypeAlias = dict[str, dict[Attributes, float]]

__all__ = ("Metrics",)

# Boundaries that the conventions recommend.
_TOKEN_BUCKETS = tuple(4**power for power in range(14))
_SECOND_BUCKETS = tuple(0.01 * 2**power for power in range(14))
_RUN_BUCKETS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000)
_MAX_ERRORS = 50

_COUNTERS = {
    "runmgr.runs": ("{run}", "Runs that ended, by outcome"),
    "runmgr.requests": ("{request}", "Model requests sent"),
    "runmgr.requests.retried": ("{request}", "Failed requests that are sent again"),
    "runmgr.requests.rate_limited": ("{request}", "Requests that were answered with 429"),
    "runmgr.requests.unpriced": ("{request}", "Paid requests whose price is unknown"),
    "runmgr.tokens": ("{token}", "Tokens used"),
    "runmgr.cost": ("{USD}", "Paid, as far as prices are known"),
}


class Metrics:
    """The instruments. Make one for a program, and have it `watch` each of its supervisors; or give it to `RunPool`.

    Args:
        meter_provider: where they are made; the global one when left out, which may be set later too.
        max_groups: groups that have series of their own; later ones are ``(other)``.
        max_models: the same of models.
    """

    def __init__(
        self, *, meter_provider: MeterProvider | None = None, max_groups: int = 100, max_models: int = 100
    ) -> None:
        self._groups = Labels(max_groups)
        self._models = Labels(max_models)
        self._errors = Labels(_MAX_ERRORS)
        self._gauges = Gauges(self._groups, self._models)
        meter = (meter_provider or get_meter_provider()).get_meter("runmgr.telemetry", __version__)
        self._lock = threading.Lock()
        self._recorders: dict[_Recorder, None] = {}
        self._past: Counts = {name: {} for name in _COUNTERS}  # of supervisors that have ended
        self._run_seconds = meter.create_histogram(
            "runmgr.run.duration",
            "s",
            "From a run's start to its end",
            explicit_bucket_boundaries_advisory=_RUN_BUCKETS,
        )
        self._queue_seconds = meter.create_histogram(
            "runmgr.run.queue_time",
            "s",
            "From a run's admission to its start",
            explicit_bucket_boundaries_advisory=_RUN_BUCKETS,
        )
        self._token_usage = meter.create_histogram(
            "gen_ai.client.token.usage",
            "{token}",
            "Measures number of input and output tokens used",
            explicit_bucket_boundaries_advisory=_TOKEN_BUCKETS,
        )
        self._seconds = meter.create_histogram(
            "gen_ai.client.operation.duration",
            "s",
            "Duration of GenAI operation",
            explicit_bucket_boundaries_advisory=_SECOND_BUCKETS,
        )
        for name, (unit, description) in _COUNTERS.items():
            meter.create_observable_counter(name, [partial(self._count, name)], unit, description)
        for name, (unit, description) in GAUGES.items():
            make = (
                meter.create_observable_counter
                if name in COUNTED
                else meter.create_observable_up_down_counter
            )
            make(name, [partial(self._observe, name)], unit, description)

    def watch(self, supervisor: Supervisor) -> None:
        """Watch a supervisor from now until it ends. Call it in its trio thread; returns at once.

        Args:
            supervisor: from `open_supervisor`.
        """
        recorder = _Recorder(self, supervisor)
        self._gauges.watch(supervisor)
        with self._lock:
            self._recorders[recorder] = None
        supervisor.listen(recorder.told, ended=partial(self._leave, recorder, supervisor))

    def _leave(self, recorder: _Recorder, supervisor: Supervisor) -> None:
        self._gauges.leave(supervisor)
        with self._lock:
            del self._recorders[recorder]
            for name, counts in recorder.counts().items():
                _merge(self._past[name], counts)

    def _count(self, name: str, _: CallbackOptions) -> Iterable[Observation]:
        with self._lock:
            sums = dict(self._past[name])
            for recorder in self._recorders:
                _merge(sums, recorder.counts()[name])
        return [Observation(value, dict(labels)) for labels, value in sums.items()]

    def _observe(self, name: str, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(value, labels) for labels, value in self._gauges.read(name)]


def _merge(into: dict[Attributes, float], counts: dict[Attributes, float]) -> None:
    for labels, value in counts.items():
        into[labels] = into.get(labels, 0) + value


class _Requests:
    """What was counted of the requests with one set of labels: plain numbers, put under their names when somebody asks."""

    __slots__ = ("cost", "input", "input_labels", "labels", "output", "output_labels", "rate_limited", "retried", "sent", "unpriced")  # fmt: skip

    def __init__(self, provider: str | None, model: str, group: str) -> None:
        self.labels = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": provider or "",
            "gen_ai.request.model": model,
            "runmgr.group": group,
        }
        self.input_labels = {**self.labels, "gen_ai.token.type": "input"}
        self.output_labels = {**self.labels, "gen_ai.token.type": "output"}
        self.sent = self.retried = self.rate_limited = self.unpriced = self.input = self.output = 0
        self.cost = 0.0

    def counts(self) -> Iterable[tuple[str, dict[str, str], float]]:
        yield "runmgr.requests", self.labels, self.sent
        yield "runmgr.requests.retried", self.labels, self.retried
        yield "runmgr.requests.rate_limited", self.labels, self.rate_limited
        yield "runmgr.requests.unpriced", self.labels, self.unpriced
        yield "runmgr.tokens", self.input_labels, self.input
        yield "runmgr.tokens", self.output_labels, self.output
        yield "runmgr.cost", self.labels, self.cost


class _Runs:
    """What was counted of the runs of one group that ended in one way."""

    __slots__ = ("count", "group_labels", "labels", "timed_labels")

    def __init__(self, group: str, status: str, error: str | None) -> None:
        self.count = 0
        self.group_labels = {"runmgr.group": group}
        self.timed_labels = {"runmgr.group": group, "runmgr.outcome": status}
        self.labels = self.timed_labels if error is None else {**self.timed_labels, "error.type": error}


class _Recorder:
    """What one supervisor's events are recorded by.

    Args:
        metrics: whose instruments.
        supervisor: whose events.
    """

    __slots__ = (
        "_doors",
        "_handlers",
        "_measured",
        "_metrics",
        "_requests",
        "_runs",
        "_since",
        "_supervisor",
    )

    def __init__(self, metrics: Metrics, supervisor: Supervisor) -> None:
        self._metrics = metrics
        self._supervisor = supervisor
        self._since = supervisor.snapshot().at
        # Written in the supervisor's thread only.
        self._requests: dict[tuple[str | None, str, str], _Requests] = {}
        self._runs: dict[tuple[str, str, str | None], _Runs] = {}
        self._measured: set[str] = set()
        self._doors = 0
        self._handlers: dict[type, Callable[[Any], None]] = {
            RunEnded: self._ended,
            RequestSent: self._sent,
            RequestSettled: self._settled,
            RequestFailed: self._failed,
        }

    def told(self, event: Any) -> None:
        handler = self._handlers.get(cast("type[Any]", type(event)))
        if handler is not None:
            handler(event)

    def counts(self) -> Counts:
        """What happened, by instrument and labels. From any thread."""
        counts: Counts = {name: {} for name in _COUNTERS}
        for requests in list(self._requests.values()):
            for name, labels, value in requests.counts():
                if value:
                    counts[name][tuple(labels.items())] = value
        for runs in list(self._runs.values()):
            counts["runmgr.runs"][tuple(runs.labels.items())] = runs.count
        return counts

    def _about(self, event: Any) -> _Requests:
        """What is counted of such requests."""
        metrics = self._metrics
        key = (event.provider, metrics._models(event.model), metrics._groups(event.group))
        requests = self._requests.get(key)
        if requests is None:
            requests = self._requests[key] = _Requests(*key)
        return requests

    def _measures_itself(self, model: str) -> bool:
        """Whether the model is instrumented: then it records ``gen_ai.client.*`` by itself, and would be counted twice."""
        doors = self._supervisor._runtime.gates.doors
        if len(doors) != self._doors:
            self._doors = len(doors)
            self._measured = {
                door.name for door in doors.values() if isinstance(door.model, InstrumentedModel)
            }
        return model in self._measured

    def _ended(self, event: RunEnded) -> None:
        metrics, outcome = self._metrics, event.outcome
        error = None if outcome.error is None else metrics._errors(outcome.error.type)
        key = (metrics._groups(event.group), outcome.status.value, error)
        runs = self._runs.get(key)
        if runs is None:
            runs = self._runs[key] = _Runs(*key)
        runs.count += 1
        started = outcome.started_at
        if started is not None:
            metrics._run_seconds.record(max(0.0, outcome.finished_at - started), runs.timed_labels)
            metrics._queue_seconds.record(max(0.0, started - outcome.queued_at), runs.group_labels)

    def _sent(self, event: RequestSent) -> None:
        self._about(event).sent += 1

    def _settled(self, event: RequestSettled) -> None:
        metrics, usage, requests = self._metrics, event.usage, self._about(event)
        if event.cost is None:
            requests.unpriced += 1
        else:
            requests.cost += float(event.cost)
        gen_ai = not self._measures_itself(event.model)
        if tokens := usage.input_tokens:
            requests.input += tokens
            if gen_ai:
                metrics._token_usage.record(tokens, requests.input_labels)
        if tokens := usage.output_tokens:
            requests.output += tokens
            if gen_ai:
                metrics._token_usage.record(tokens, requests.output_labels)
        if gen_ai and event.seconds <= event.at - self._since:  # else it was sent before anybody watched
            metrics._seconds.record(event.seconds, requests.labels)

    def _failed(self, event: RequestFailed) -> None:
        metrics, requests = self._metrics, self._about(event)
        requests.rate_limited += event.status == 429
        requests.retried += event.retry_in is not None
        seconds = event.seconds
        if seconds is None or seconds > event.at - self._since or self._measures_itself(event.model):
            return
        error = event.error.partition(":")[0] if event.status is None else str(event.status)
        metrics._seconds.record(seconds, {**requests.labels, "error.type": metrics._errors(error)})
