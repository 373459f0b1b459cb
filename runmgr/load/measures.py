"""From requests to figures. Each request is folded in when it ends and forgotten; what is kept can be added up over processes.

Definitions (``--defs``), for a request that was due at ``d``, sent at ``s``, whose pieces of content arrived at ``c1 .. ck``, that ended at
``e`` and had ``n`` output tokens:

=========  =======================  ==============================  ====================  ==================
defs       ttft                     itl                             tpot                  e2e
=========  =======================  ==============================  ====================  ==================
runmgr     c1 - d                   every gap c(i+1) - c(i)         (ck - c1) / (n - 1)   e - d
vllm       c1' - s                  every gap c'(i+1) - c'(i)       (ck' - c1') / (n - 1) ck' - s
guidellm   c1 - s                   (ck - c1) / (n - 1), n - 1 x    (ck - s) / n, n x     e - s
aiperf     c1 - s                   (ck - c1) / (n - 1), once       as itl                ck - s
=========  =======================  ==============================  ====================  ==================

``c'``: every event with a choice, also one without content (a role alone, the finish reason).
Sources: vLLM ``vllm/benchmarks/lib/endpoint_request_func.py`` (``async_request_openai_chat_completions``) and ``serve.py``
(``calculate_metrics``); GuideLLM ``schemas/request_stats.py`` and ``benchmark/schemas/generative/metrics.py`` (the weights); AIPerf 0.13
``metrics/types/{ttft,inter_token_latency,request_latency}_metric.py``, where only responses with content count. Without ``--defs`` the figures from the send stand beside them as ``ttft_from_send`` and ``e2e_from_send``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

from runmgr.load.histogram import Histogram
from runmgr.load.record import Record
from runmgr.load.slo import Objective

__all__ = ("DEFS", "Defs", "Measures", "Moment")

Defs = Literal["runmgr", "vllm", "guidellm", "aiperf"]
DEFS: tuple[Defs, ...] = ("runmgr", "vllm", "guidellm", "aiperf")
NAMES = (
    "ttft",
    "itl",
    "tpot",
    "e2e",
    "ttft_from_send",
    "e2e_from_send",
    "first_tool",
    "lag",
    "model",
    "tool",
    "overhead",
)
_MOST_MOMENTS = 600


class Moment:
    """What happened in one slice of time, by when requests were due (latencies) or ended (counts); or to one source's requests."""

    __slots__ = ("busy", "e2e", "failed", "scheduled", "succeeded", "tokens", "ttft")

    def __init__(self) -> None:
        self.scheduled = 0
        self.succeeded = 0
        self.failed = 0
        self.tokens = 0
        self.busy = 0.0  # seconds that requests were on their way, added up
        self.ttft = Histogram()
        self.e2e = Histogram()

    def merge(self, other: Moment) -> None:
        """Add another's."""
        self.scheduled += other.scheduled
        self.succeeded += other.succeeded
        self.failed += other.failed
        self.tokens += other.tokens
        self.busy += other.busy
        self.ttft.merge(other.ttft)
        self.e2e.merge(other.e2e)

    def state(self) -> list[Any]:
        """All of it as JSON values."""
        counts = [self.scheduled, self.succeeded, self.failed, self.tokens, self.busy]
        return [*counts, self.ttft.state(), self.e2e.state()]

    @classmethod
    def of_state(cls, values: Sequence[Any]) -> Moment:
        """From ``state``'s values."""
        one = cls()
        one.scheduled, one.succeeded, one.failed, one.tokens, one.busy = values[:5]
        one.ttft, one.e2e = Histogram.of_state(values[5]), Histogram.of_state(values[6])
        return one


class Measures:
    """Everything measured, in bounded memory.

    Args:
        warmup: requests due before this many seconds are counted in no figure.
        until: nor are those due from this moment on: the cool-down.
        objectives: service levels, for goodput.
        defs: whose definitions.
    """

    def __init__(
        self,
        *,
        warmup: float = 0.0,
        until: float = math.inf,
        objectives: Sequence[Objective] = (),
        defs: Defs = "runmgr",
    ) -> None:
        self.warmup = warmup
        self.until = until
        self.defs: Defs = defs
        self._limits = {one.measure: one.limit for one in objectives}
        self.times: dict[str, Histogram] = {name: Histogram() for name in NAMES}
        self.errors: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self.counted: Counter[str] = Counter()
        self.totals: Counter[str] = Counter()
        self.first_at = math.inf
        self.last_at = 0.0
        self.slice_seconds = 1.0
        self.moments: dict[int, Moment] = {}
        self.sources: dict[str, Moment] = {}

    # -------------------------------------------------------------- folding in

    def add(self, record: Record) -> bool:
        """Count a request that ended; gives whether it was good: succeeded within every service level."""
        ended = record.finished or record.scheduled
        self.last_at = max(self.last_at, ended)
        totals = self.totals
        totals["ended"] += 1
        totals[record.status] += 1
        if record.sent is not None:
            self.first_at = min(self.first_at, record.sent)
            self._busy(record.sent, ended)
        good = record.status == "succeeded" and self._good(record)
        self._moment(record.scheduled).scheduled += 1
        if record.status == "failed" and record.error is not None:
            kind, message = record.error
            self.errors[kind] += 1
            if len(self.examples) < 50:
                self.examples.setdefault(kind, message)
            self._moment(ended).failed += 1
        if record.status == "succeeded":
            moment = self._moment(ended)
            moment.succeeded += 1
            moment.tokens += record.output_tokens
        if record.status == "cancelled" or not self.warmup <= record.scheduled < self.until:
            return good
        self._count(record, good=good)
        return good

    def _count(self, record: Record, *, good: bool) -> None:
        times, totals = self.times, self.totals
        totals["counted"] += 1
        totals["good"] += good
        totals["conversations"] += record.turn == 1
        source = None
        if record.source is not None:
            source = self.sources.get(record.source) or self.sources.setdefault(record.source, Moment())
            source.scheduled += 1
            source.failed += record.status == "failed"
        if record.sent is not None:
            times["lag"].add(record.sent - record.scheduled)
        if record.status == "failed":
            totals["counted_failed"] += 1
            for name in ("ttft", "itl", "tpot", "e2e"):
                times[name].add_never()
            return
        totals["input_tokens"] += record.input_tokens
        totals["output_tokens"] += record.output_tokens
        totals["chunks"] += len(record.moments)
        totals["retries"] += record.retries
        if record.cached_tokens is not None:
            totals["cached_tokens"] += record.cached_tokens
            totals["cached_of"] += record.input_tokens
        self.counted[record.counted] += 1
        ttft, itl, tpot, e2e = self._times(record)
        moment = self._moment(record.scheduled)
        if ttft is not None:
            times["ttft"].add(ttft)
            moment.ttft.add(ttft)
        if self.defs in {"runmgr", "vllm"}:
            times["itl"].add_gaps(record.moments)
        elif itl is not None:
            times["itl"].add(itl, record.output_tokens - 1 if self.defs == "guidellm" else 1)
        if tpot is not None:
            times["tpot"].add(tpot, record.output_tokens if self.defs == "guidellm" else 1)
        times["e2e"].add(e2e)
        moment.e2e.add(e2e)
        if source is not None:
            source.succeeded += 1
            source.tokens += record.output_tokens
            source.e2e.add(e2e)
            if ttft is not None:
                source.ttft.add(ttft)
        sent, finished = record.sent, record.finished
        if sent is not None and finished is not None:
            if record.moments:
                times["ttft_from_send"].add(record.moments[0] - sent)
            times["e2e_from_send"].add(finished - sent)
        if record.tool_at is not None:
            times["first_tool"].add(record.tool_at - record.scheduled)
        run = record.run
        if run is not None:
            totals["turns"] += run["turns"]
            totals["tool_calls"] += run["tool_calls"]
            for name in ("model", "tool", "overhead"):
                if (seconds := run.get(f"{name}_seconds")) is not None:  # not known of runs on a cluster
                    times[name].add(seconds)

    def _times(self, record: Record) -> tuple[float | None, float | None, float | None, float]:
        """ttft, itl of the whole request, tpot, e2e by the definitions chosen."""
        defs, moments, n = self.defs, record.moments, record.output_tokens
        finished = record.finished or record.scheduled
        base = record.scheduled if defs == "runmgr" or record.sent is None else record.sent
        if not moments:
            return None, None, None, finished - base
        first, last = moments[0], moments[-1]
        whole = last - first
        match defs:
            case "guidellm":
                itl = whole / (n - 1) if n > 1 else None
                return first - base, itl, (last - base) / n if n else None, finished - base
            case "aiperf":
                itl = whole / (n - 1) if n > 1 else None
                return first - base, itl, itl, last - base
            case _:
                tpot = whole / (n - 1) if n > 1 else None
                itl = whole / (len(moments) - 1) if len(moments) > 1 else None
                return first - base, itl, tpot, (last if defs == "vllm" else finished) - base

    def _good(self, record: Record) -> bool:
        """Whether every limit on a time is kept; of the gaps the request's mean counts, as AIPerf and vLLM (tpot) count."""
        limits = self._limits
        if not limits:
            return True
        ttft, itl, tpot, e2e = self._times(record)
        for name, value in (("ttft", ttft), ("itl", itl), ("tpot", tpot), ("e2e", e2e)):
            if value is not None and value > limits.get(name, math.inf):
                return False
        return True

    def _moment(self, at: float) -> Moment:
        number = int(max(at, 0.0) / self.slice_seconds)
        found = self.moments.get(number)
        if found is None:
            while number >= _MOST_MOMENTS:
                self._coarser()
                number = int(max(at, 0.0) / self.slice_seconds)
            found = self.moments.setdefault(number, Moment())
        return found

    def _busy(self, begin: float, end: float) -> None:
        """Count that a request was on its way, in each slice of time that it was."""
        last = self._moment(end)
        width = self.slice_seconds
        first_number, last_number = int(max(begin, 0.0) / width), int(max(end, 0.0) / width)
        if first_number == last_number:
            last.busy += end - begin
            return
        last.busy += end - last_number * width
        for number in range(first_number + 1, last_number):
            self.moments.setdefault(number, Moment()).busy += width
        self.moments.setdefault(first_number, Moment()).busy += (first_number + 1) * width - begin

    def _coarser(self) -> None:
        """Slices twice as long, so that there are never more than so many."""
        self.slice_seconds *= 2
        halved: dict[int, Moment] = {}
        for number, moment in self.moments.items():
            into = halved.get(number // 2)
            if into is None:
                halved[number // 2] = moment
            else:
                into.merge(moment)
        self.moments = halved

    # -------------------------------------------------------------- adding up

    def merge(self, other: Measures) -> None:
        """Add what another process measured. Exact, but for slices of time of which the coarser counts."""
        for name, histogram in other.times.items():
            self.times[name].merge(histogram)
        self.errors += other.errors
        self.examples = other.examples | self.examples
        self.counted += other.counted
        self.totals += other.totals
        self.first_at = min(self.first_at, other.first_at)
        self.last_at = max(self.last_at, other.last_at)
        while self.slice_seconds < other.slice_seconds:
            self._coarser()
        while other.slice_seconds < self.slice_seconds:
            other._coarser()
        for number, moment in other.moments.items():
            self.moments.setdefault(number, Moment()).merge(moment)
        for name, moment in other.sources.items():
            self.sources.setdefault(name, Moment()).merge(moment)

    def state(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "times": {name: one.state() for name, one in self.times.items()},
            "errors": dict(self.errors),
            "examples": self.examples,
            "counted": dict(self.counted),
            "totals": dict(self.totals),
            "first_at": None if self.first_at == math.inf else self.first_at,
            "last_at": self.last_at,
            "slice_seconds": self.slice_seconds,
            "moments": [[n, *m.state()] for n, m in self.moments.items()],
            "sources": [[name, *m.state()] for name, m in self.sources.items()],
        }

    @classmethod
    def of_state(cls, state: dict[str, Any]) -> Measures:
        """From ``state``'s values: to be merged."""
        one = cls()
        one.times = {name: Histogram.of_state(value) for name, value in state["times"].items()}
        one.errors = Counter(state["errors"])
        one.examples = state["examples"]
        one.counted = Counter(state["counted"])
        one.totals = Counter(state["totals"])
        one.first_at = math.inf if state["first_at"] is None else state["first_at"]
        one.last_at = state["last_at"]
        one.slice_seconds = state["slice_seconds"]
        one.moments = {number: Moment.of_state(values) for number, *values in state["moments"]}
        one.sources = {name: Moment.of_state(values) for name, *values in state["sources"]}
        return one
