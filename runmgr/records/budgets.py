"""Limits over many runs, as values: budgets, rates, restarts."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec

__all__ = ("Budget", "Price", "RateLimit", "RestartPolicy")


class Budget(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What all runs together may spend. Hard: a request is only sent while its upper bound still fits.

    Args:
        requests: model requests, resends included.
        tokens: input and output tokens together.
        input_tokens: input tokens.
        output_tokens: output tokens.
        cost: US dollars; numbers are read as decimals (``5``, ``"0.05"``, ``Decimal``).

    Raises:
        ValueError: a limit is negative.
    """

    requests: int | None = None
    tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: Decimal | float | str | None = None

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            limit = getattr(self, name)
            if limit is not None and Decimal(str(limit)) < 0:
                raise ValueError(
                    f"Budget({name}={limit!r}): a budget cannot be negative; leave it out for no limit"
                )

    @property
    def cost_limit(self) -> Decimal | None:
        """``cost`` as a `Decimal`, or None."""
        return None if self.cost is None else Decimal(str(self.cost))


class RateLimit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How fast one model may be asked.

    Args:
        requests_per_minute: requests a minute, smooth (GCRA: a burst of at most one second's worth).
        tokens_per_minute: tokens a minute, input estimate and output together.
        max_in_flight: requests at once.
        adaptive: find the provider's in-flight limit from its answers; ``max_in_flight`` then is the ceiling.

    Raises:
        ValueError: a limit is not positive.
    """

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    max_in_flight: int | None = None
    adaptive: bool = True

    def __post_init__(self) -> None:
        for name in ("requests_per_minute", "tokens_per_minute", "max_in_flight"):
            limit = getattr(self, name)
            if limit is not None and limit <= 0:
                raise ValueError(f"RateLimit({name}={limit!r}): must be positive; leave it out for no limit")


class RestartPolicy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which failed runs begin again, and how often.

    Only transient provider errors restart a run (see `runmgr.models.retry`), never an error of the user's own code.

    Args:
        max_restarts: restarts of one run within the period.
        within: the period in seconds; None counts over the run's whole life.
        backoff: seconds before the first restart; doubles with each further one, with full jitter.
        resume: go on from the last node, or from the start.

    Raises:
        ValueError: a number is negative.
    """

    max_restarts: int = 3
    within: float | None = None
    backoff: float = 1.0
    resume: Literal["node", "start"] = "node"

    def __post_init__(self) -> None:
        if self.max_restarts < 0 or self.backoff < 0 or (self.within is not None and self.within <= 0):
            raise ValueError(f"{self!r}: numbers must not be negative, and `within` must be positive or None")


class Price(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a model costs, in US dollars a million tokens; numbers are read as decimals.

    Args:
        input: of input tokens.
        output: of output tokens.
        cache_read: of input tokens read from a cache; ``input`` when left out.
        cache_write: of input tokens written to a cache; ``input`` when left out.
    """

    input: Decimal | float | str
    output: Decimal | float | str
    cache_read: Decimal | float | str | None = None
    cache_write: Decimal | float | str | None = None
