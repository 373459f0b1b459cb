"""What a simulated provider is, and what it tells of each request."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence

import attrs

from runmgr.exceptions import UserError
from runmgr.models.sim_script import Script
from runmgr.sim.queueing import QueueConfig

__all__ = ("SimEntry", "SimOptions")


@attrs.frozen(kw_only=True)
class SimEntry:
    """What the server did with one request: the truth that a measurement can be held against. Seconds on trio's clock.

    Args:
        number: of the request, from 1.
        route: its path.
        status: what it was answered with; 0 where nothing was.
        fault: the fault that it met.
        arrived: when all of it had been read.
        tokens: when each token was given to the kernel; empty where the answer was not streamed.
        finished: when the end was.
        queued: seconds that it waited for a place in the batch.
        input_tokens: of the prompt.
        cached_tokens: of them, those that were cached.
        output_tokens: of the answer; 0 where that did not go out whole.
    """

    number: int
    route: str = ""
    status: int = 200
    fault: str | None = None
    arrived: float
    tokens: array[float]
    finished: float
    queued: float = 0.0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0


@attrs.frozen(kw_only=True)
class SimOptions:
    """What a simulated provider is, besides its `SimConfig`.

    Args:
        answers: known questions and their answers.
        scripts: what is said turn by turn, tool calls among it.
        queue: an engine whose queue and batch make the times, instead of distributions.
        cache_tokens: how many tokens of prefixes are cached; 0: none, and usage says nothing of it.
        block_tokens: tokens a block of that cache.
        max_in_flight: more than these at once get a 429.
        rpm: more requests than these in a sliding minute get a 429.
        tpm: more tokens than these get a 429.
        log: is told of each request that ended.

    Raises:
        UserError: a value that cannot be.
    """

    answers: Mapping[str, str] | None = None
    scripts: Sequence[Script] = ()
    queue: QueueConfig | None = None
    cache_tokens: int = 0
    block_tokens: int = 16
    max_in_flight: int | None = None
    rpm: int | None = None
    tpm: int | None = None
    log: Callable[[SimEntry], None] | None = None

    def __attrs_post_init__(self) -> None:
        for name, value, least in (
            ("--cache-tokens", self.cache_tokens, 0),
            ("--block-tokens", self.block_tokens, 1),
            ("--max-in-flight", self.max_in_flight, 1),
            ("--rpm", self.rpm, 1),
            ("--tpm", self.tpm, 1),
        ):
            if value is not None and value < least:
                raise UserError(f"{name} {value}: at least {least} is needed")
