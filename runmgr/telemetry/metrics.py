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
            for name, counts in recorder.counts.items():
                _merge(self._past[name], counts)

    def _count(self, name: str, _: CallbackOptions) -> Iterable[Observation]:
        with self._lock:
            sums = dict(self._past[name])
            for recorder in self._recorders:
                _merge(sums, recorder.counts[name])
        return [Observation(value, dict(labels)) for labels, value in sums.items()]

    def _observe(self, name: str, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(value, labels) for labels, value in self._gauges.read(name)]


def _merge(into: dict[Attributes, float], counts: dict[Attributes, float]) -> None:
    for labels, value in list(counts.items()):  # another thread may be counting
        into[labels] = into.get(labels, 0) + value


class _Recorder:
    """What one supervisor's events are recorded by.

    Args:
        metrics: whose instruments.
        supervisor: whose events.
    """

    __slots__ = (
        "_doors",
        "_handlers",
        "_labels",
        "_measured",
        "_metrics",
        "_since",
        "_supervisor",
        "counts",
    )

    def __init__(self, metrics: Metrics, supervisor: Supervisor) -> None:
        self._metrics = metrics
        self._supervisor = supervisor
        self._since = supervisor.snapshot().at
        self.counts: Counts = {name: {} for name in _COUNTERS}
        """What happened, by instrument and labels. Written in the supervisor's thread only."""
        self._labels: dict[tuple[str | None, str, str], dict[str, str]] = {}
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

    def _add(self, name: str, amount: float, labels: dict[str, str]) -> None:
        counts, key = self.counts[name], tuple(labels.items())
        counts[key] = counts.get(key, 0) + amount

    def _about(self, event: Any) -> dict[str, str]:
        """The labels of a request."""
        metrics = self._metrics
        key = (event.provider, metrics._models(event.model), metrics._groups(event.group))
        labels = self._labels.get(key)
        if labels is None:
            labels = self._labels[key] = {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": key[0] or "",
                "gen_ai.request.model": key[1],
                "runmgr.group": key[2],
            }
        return labels

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
        group = metrics._groups(event.group)
        labels = {"runmgr.group": group, "runmgr.outcome": outcome.status.value}
        started = outcome.started_at
        if started is not None:
            metrics._run_seconds.record(max(0.0, outcome.finished_at - started), labels)
            metrics._queue_seconds.record(max(0.0, started - outcome.queued_at), {"runmgr.group": group})
        if outcome.error is not None:
            labels = {**labels, "error.type": metrics._errors(outcome.error.type)}
        self._add("runmgr.runs", 1, labels)

    def _sent(self, event: RequestSent) -> None:
        self._add("runmgr.requests", 1, self._about(event))

    def _settled(self, event: RequestSettled) -> None:
        metrics, usage, labels = self._metrics, event.usage, self._about(event)
        if event.cost is None:
            self._add("runmgr.requests.unpriced", 1, labels)
        elif cost := float(event.cost):
            self._add("runmgr.cost", cost, labels)
        gen_ai = not self._measures_itself(event.model)
        for kind, tokens in (("input", usage.input_tokens), ("output", usage.output_tokens)):
            if tokens:
                typed = {**labels, "gen_ai.token.type": kind}
                self._add("runmgr.tokens", tokens, typed)
                if gen_ai:
                    metrics._token_usage.record(tokens, typed)
        if gen_ai and event.seconds <= event.at - self._since:  # else it was sent before anybody watched
            metrics._seconds.record(event.seconds, labels)

    def _failed(self, event: RequestFailed) -> None:
        metrics, labels = self._metrics, self._about(event)
        if event.status == 429:
            self._add("runmgr.requests.rate_limited", 1, labels)
        if event.retry_in is not None:
            self._add("runmgr.requests.retried", 1, labels)
        seconds = event.seconds
        if seconds is None or seconds > event.at - self._since or self._measures_itself(event.model):
            return
        error = event.error.partition(":")[0] if event.status is None else str(event.status)
        metrics._seconds.record(seconds, {**labels, "error.type": metrics._errors(error)})
