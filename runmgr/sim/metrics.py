"""``GET /metrics``: what the server saw, in Prometheus' text format and under vLLM's names, so that dashboards made for it can be tried.

Sources: Prometheus documentation, "Exposition formats" (text format 0.0.4); vLLM documentation, "Production metrics" (names and meanings).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence

__all__ = ("CONTENT_TYPE", "Metrics")

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
    20.0,
    40.0,
    80.0,
)
_GAPS = (
    0.001,
    0.005,
    0.01,
    0.025,
    0.05,
    0.075,
    0.1,
    0.15,
    0.2,
    0.3,
    0.4,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
)


class _Buckets:
    def __init__(self, name: str, says: str, bounds: Sequence[float]) -> None:
        self._name = name
        self._says = says
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, values: Iterable[float]) -> None:
        for value in values:
            self._counts[bisect_left(self._bounds, value)] += 1
            self._sum += value

    def lines(self, label: str) -> list[str]:
        lines = _head(self._name, "histogram", self._says)
        seen = 0
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            seen += count
            lines.append(f'{self._name}_bucket{{le="{bound}",{label}}} {seen}')
        return [*lines, f"{self._name}_sum{{{label}}} {self._sum}", f"{self._name}_count{{{label}}} {seen}"]


def _head(name: str, kind: str, says: str) -> list[str]:
    return [f"# HELP {name} {says}", f"# TYPE {name} {kind}"]


class Metrics:
    """Counts and histograms since the start."""

    def __init__(self) -> None:
        self._ttft = _Buckets("vllm:time_to_first_token_seconds", "Time to first token.", _SECONDS)
        self._itl = _Buckets("vllm:inter_token_latency_seconds", "Time between tokens.", _GAPS)
        self._e2e = _Buckets("vllm:e2e_request_latency_seconds", "Request latency.", _SECONDS)
        self._queue = _Buckets("vllm:request_queue_time_seconds", "Time spent waiting.", _SECONDS)
        self._reasons: Counter[str] = Counter()
        self._prompt = 0
        self._generated = 0

    def add(
        self,
        tokens: Sequence[float],
        arrived: float,
        finished: float,
        queued: float,
        prompt: int,
        output: int,
        reason: str,
    ) -> None:
        """Count an answer that went out whole.

        Args:
            tokens: when each token went out; empty of a plain answer.
            arrived: when the request did.
            finished: when the end went out.
            queued: seconds that it waited for a place.
            prompt: tokens of the prompt.
            output: tokens of the answer.
            reason: how it ended: ``stop``, ``length``, ``tool_calls``.
        """
        if tokens:
            self._ttft.add((tokens[0] - arrived,))
            self._itl.add(map(float.__sub__, tokens[1:], tokens))
        self._e2e.add((finished - arrived,))
        self._queue.add((queued,))
        self._prompt += prompt
        self._generated += output
        self._reasons[reason] += 1

    def text(
        self, *, running: int, waiting: int, cache: tuple[int, int, float] | None, model: str = "sim"
    ) -> bytes:
        """All of it.

        Args:
            running: requests being answered.
            waiting: requests that wait for a place.
            cache: tokens looked up, tokens found, share of its memory in use.
            model: what the label says.
        """
        label = f'model_name="{model}"'
        lines: list[str] = []

        def one(name: str, kind: str, says: str, value: float) -> None:
            lines.extend([*_head(name, kind, says), f"{name}{{{label}}} {value}"])

        one("vllm:num_requests_running", "gauge", "Requests being answered.", running)
        one("vllm:num_requests_waiting", "gauge", "Requests waiting for a place.", waiting)
        one("vllm:prompt_tokens_total", "counter", "Prompt tokens of whole answers.", self._prompt)
        one("vllm:generation_tokens_total", "counter", "Tokens of whole answers.", self._generated)
        if cache is not None:
            asked, hits, used = cache
            one("vllm:kv_cache_usage_perc", "gauge", "Share of the prefix cache in use.", round(used, 6))
            one("vllm:prefix_cache_queries_total", "counter", "Prompt tokens looked up.", asked)
            one("vllm:prefix_cache_hits_total", "counter", "Prompt tokens found.", hits)
        lines += _head("vllm:request_success_total", "counter", "Whole answers.")
        lines += [
            f'vllm:request_success_total{{finished_reason="{reason}",{label}}} {count}'
            for reason, count in sorted(self._reasons.items())
        ]
        for buckets in (self._ttft, self._itl, self._e2e, self._queue):
            lines += buckets.lines(label)
        return "\n".join([*lines, ""]).encode()
