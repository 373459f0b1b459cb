"""Limits over many runs, as values: budgets, rates, restarts."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any, Literal, TypeAlias, get_args

import msgspec

__all__ = ("Budget", "CachePolicy", "Hedge", "Price", "RateLimit", "RestartPolicy")


class Budget(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What all runs together may spend. Hard: a request is only sent while its upper bound still fits.

    Args:
        requests: model requests, resends included.
        tokens: input and output tokens together.
        input_tokens: input tokens.
        output_tokens: output tokens.
        cost: US dollars; numbers are read as decimals (``5``, ``"0.05"``, ``Decimal``).

    Raises:
        ValueError: a limit is negative, no number, or (but for ``cost``) no whole number.
    """

    requests: int | None = None
    tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: Decimal | float | str | None = None

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            limit = getattr(self, name)
            if limit is None:
                continue
            number = _number(limit)
            if number is None or number < 0:
                what = "must be a number" if number is None else "a budget cannot be negative"
                raise ValueError(f"Budget({name}={limit!r}): {what}; leave it out for no limit")
            if name != "cost":
                _make_whole(self, name, number)

    @property
    def cost_limit(self) -> Decimal | None:
        """``cost`` as a `Decimal`, or None."""
        return None if self.cost is None else Decimal(str(self.cost))


def _number(value: Any) -> Decimal | None:
    """As it is written; None where that is no finite number."""
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _make_whole(limits: msgspec.Struct, name: str, number: Decimal) -> None:
    """Have a field be an int, such as of 1e6."""
    if number != int(number):
        raise ValueError(f"{type(limits).__name__}({name}={getattr(limits, name)!r}): must be a whole number")
    msgspec.structs.force_setattr(limits, name, int(number))


class RateLimit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How fast one model may be asked. What is left out is not limited, but by what the provider's answers teach.

    Args:
        requests_per_minute: requests a minute, evenly spread (GCRA with a burst of one).
        tokens_per_minute: tokens a minute, input and output together; at most one second's worth at once.
        input_tokens_per_minute: the same of input tokens alone.
        output_tokens_per_minute: the same of output tokens alone.
        max_in_flight: requests at once.
        adaptive: find the provider's in-flight limit from its answers; ``max_in_flight`` then is the ceiling.

    Raises:
        ValueError: a limit is not positive, no number, or (of ``max_in_flight``) no whole number.
    """

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    input_tokens_per_minute: float | None = None
    output_tokens_per_minute: float | None = None
    max_in_flight: int | None = None
    adaptive: bool = True

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            limit = getattr(self, name)
            if name == "adaptive" or limit is None:
                continue
            number = _number(limit)
            if number is None or number <= 0:
                what = "a number" if number is None else "positive"
                raise ValueError(f"RateLimit({name}={limit!r}): must be {what}; leave it out for no limit")
            if name == "max_in_flight":
                _make_whole(self, name, number)
            elif not isinstance(limit, int | float):
                msgspec.structs.force_setattr(self, name, float(number))  # such as "1e3"


TransientError: TypeAlias = Literal["connection", "timeout", "conflict", "rate_limit", "server", "malformed"]
"""Classes of provider errors that may not happen again: the values of `runmgr.models.retry.RetryClass`."""


class RestartPolicy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which failed runs begin again, and how often.

    Only transient provider errors restart a run (see `runmgr.models.retry`), never an error of the user's own code.

    Args:
        max_restarts: restarts of one run within the period.
        within: the period in seconds; None counts over the run's whole life.
        backoff: seconds before the first restart; doubles with each further one, with full jitter.
        resume: go on from the last node, or from the start.
        on: which classes of provider errors restart a run; all of them when left out.

    Raises:
        ValueError: a number is negative.
    """

    max_restarts: int = 3
    within: float | None = None
    backoff: float = 1.0
    resume: Literal["node", "start"] = "node"
    on: tuple[TransientError, ...] = (
        "connection",
        "timeout",
        "conflict",
        "rate_limit",
        "server",
        "malformed",
    )

    def __post_init__(self) -> None:
        unknown = set(self.on) - set(get_args(TransientError))
        if unknown:
            raise ValueError(
                f"RestartPolicy(on={self.on!r}): unknown {', '.join(sorted(unknown))}; there are "
                f"{', '.join(get_args(TransientError))}"
            )
        if self.max_restarts < 0 or self.backoff < 0 or (self.within is not None and self.within <= 0):
            raise ValueError(f"{self!r}: numbers must not be negative, and `within` must be positive or None")


class Price(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a model costs, in US dollars a million tokens; numbers are read as decimals.

    Args:
        input: of input tokens.
        output: of output tokens.
        cache_read: of input tokens read from a cache; ``input`` when left out.
        cache_write: of input tokens written to a cache; ``input`` when left out.

    Raises:
        ValueError: a price is negative, no number, or over 1,000 dollars a token.
    """

    input: Decimal | float | str
    output: Decimal | float | str
    cache_read: Decimal | float | str | None = None
    cache_write: Decimal | float | str | None = None

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            price = getattr(self, name)
            if price is None and name.startswith("cache"):
                continue
            number = _number(price)
            if number is None or not 0 <= number <= 10**9:
                raise ValueError(
                    f"Price({name}={price!r}): must be dollars a million tokens, a number from 0 to a thousand million"
                )


class Hedge(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Send a second copy of a request that is slow, and take the answer that comes first.

    Args:
        after: seconds; None: as long as the ``quantile`` of the last 200 answers took.
        quantile: 0.95 sends a copy of about one request in twenty.
        max_share: copies are at most this part of a model's requests.

    Raises:
        ValueError: a number is out of its range.
    """

    after: float | None = None
    quantile: float = 0.95
    max_share: float = 0.1

    def __post_init__(self) -> None:
        if (self.after is not None and self.after < 0) or not 0 < self.quantile < 1 or self.max_share < 0:
            raise ValueError(
                f"{self!r}: after and max_share must not be negative, quantile is between 0 and 1"
            )


class CachePolicy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Answer requests that were answered before from a file, and send equal requests in flight once.

    Args:
        path: an SQLite file, made where missing; None: only requests in flight at once are shared, nothing is kept.
        max_age: seconds that an answer is used; None: for ever.
        max_bytes: of answers in the file; the ones used longest ago go first. None: any number.
        single_flight: whether equal requests in flight at once are sent once.

    Raises:
        ValueError: a number is negative.
    """

    path: str | None = None
    max_age: float | None = None
    max_bytes: int | None = None
    single_flight: bool = True

    def __post_init__(self) -> None:
        if (self.max_age is not None and self.max_age < 0) or (
            self.max_bytes is not None and self.max_bytes < 0
        ):
            raise ValueError(f"{self!r}: max_age and max_bytes must not be negative")
