"""A queueing model of an engine: requests wait for a place in a batch that computes in steps. Pure: no clock, no trio, no I/O.

In each step every sequence of the batch whose prompt is done gets one token, and what is left of the step's budget of prompt tokens goes
to the sequences that are not so far, in order of arrival. Sequences join and leave between steps (G. Yu et al., "Orca" (OSDI 2022):
iteration-level scheduling; A. Agrawal et al., "Sarathi-Serve" (OSDI 2024): prompts in chunks beside decoding). A step takes

    prompt tokens / prefill_rate  +  step + step_each * sequences that decode    (the second term where any does)

With one place, prompts of one length and answers of one token it is a queue M/D/1 when arrivals are Poisson. Not modelled: memory that
runs out and preemption.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import attrs

from runmgr.exceptions import UserError
from runmgr.sim.prefix import PrefixCache

__all__ = ("Batcher", "QueueConfig", "Waiting")


@attrs.frozen(kw_only=True)
class QueueConfig:
    """An engine.

    Args:
        max_batch: sequences at once; the others wait.
        prefill_rate: prompt tokens a second; infinite: prompts cost nothing.
        step: seconds of a decoding step, whatever the batch.
        step_each: seconds that each sequence adds to it.
        prefill_chunk: prompt tokens that one step takes at most.

    Raises:
        UserError: a value that cannot be.
    """

    max_batch: int = 256
    prefill_rate: float = math.inf
    step: float = 0.0
    step_each: float = 0.0
    prefill_chunk: int = 2048

    def __attrs_post_init__(self) -> None:
        for name, value in (("--max-batch", self.max_batch), ("--prefill-chunk", self.prefill_chunk)):
            if value < 1:
                raise UserError(f"{name} {value}: at least 1 is needed")
        if not self.prefill_rate > 0:
            raise UserError(
                f"--prefill-rate {self.prefill_rate:g}: prompt tokens a second are needed, above zero"
            )
        for name, value in (("--step", self.step), ("--step-each", self.step_each)):
            if not 0 <= value < math.inf:
                raise UserError(f"{name} {value:g}: seconds from 0 up are needed")

    def decode_rate(self, batch: int) -> float:
        """Tokens a second of all of a batch of this size that decodes."""
        seconds = self.step + self.step_each * batch
        return batch / seconds if seconds else math.inf


class Waiting:
    """One request in the engine.

    Attributes:
        words: its prompt.
        wanted: tokens of its answer.
        arrived: when it came.
        admitted: when it got its place; None before.
        cached: prompt tokens that were cached.
        left: prompt tokens to compute.
        produced: tokens of the answer so far.
    """

    __slots__ = ("admitted", "arrived", "cached", "left", "produced", "wanted", "words")

    def __init__(self, words: Sequence[bytes], wanted: int, arrived: float) -> None:
        self.words = words
        self.wanted = wanted
        self.arrived = arrived
        self.admitted: float | None = None
        self.cached = 0
        self.left = len(words)
        self.produced = 0


class Batcher:
    """The engine's queue and batch. ``begin`` a step, let its time pass, ``finish`` it.

    Args:
        config: how fast it is.
        cache: of prefixes, where it has one.
    """

    def __init__(self, config: QueueConfig, cache: PrefixCache | None = None) -> None:
        self.config = config
        self._cache = cache
        self.waiting: deque[Waiting] = deque()
        self.batch: dict[Waiting, None] = {}  # in order of admission
        self._chunks: list[tuple[Waiting, int]] = []
        self._decoding: list[Waiting] = []

    def submit(self, request: Waiting) -> None:
        """One more waits. Not bounded: who sends is."""
        self.waiting.append(request)

    def drop(self, request: Waiting) -> None:
        """Nobody wants it any more. Idempotent; O(waiting) of one that waits."""
        if request in self.batch:
            del self.batch[request]
        elif request in self.waiting:
            self.waiting.remove(request)

    def begin(self, now: float) -> float | None:
        """Begin a step; gives how long it takes, or None where there is nothing to do."""
        config, batch, waiting = self.config, self.batch, self.waiting
        while waiting and len(batch) < config.max_batch:
            request = waiting.popleft()
            request.admitted = now
            if self._cache is not None:
                request.cached = self._cache.look_up(request.words)
                request.left -= request.cached
            batch[request] = None
        if not batch:
            return None
        budget = config.prefill_chunk
        self._chunks.clear()
        self._decoding.clear()
        for request in batch:
            if request.produced:
                self._decoding.append(request)
            elif budget > 0 or not request.left:
                take = min(request.left, budget)
                budget -= take
                self._chunks.append((request, take))
        seconds = (config.prefill_chunk - budget) / config.prefill_rate
        if self._decoding:
            seconds += config.step + config.step_each * len(self._decoding)
        return seconds

    def finish(self) -> list[Waiting]:
        """End the step that was begun; gives who got a token. A prompt's last chunk yields the answer's first token."""
        got: list[Waiting] = []
        for request, take in self._chunks:
            request.left -= take
            if request.left <= 0 and request in self.batch:
                if self._cache is not None:
                    self._cache.add(request.words)
                got.append(request)
        got += [request for request in self._decoding if request in self.batch]
        for request in got:
            request.produced += 1
            if request.produced >= request.wanted:
                del self.batch[request]
        return got
