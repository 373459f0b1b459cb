"""What a request costs: by the user's own prices, else by genai-prices.

The only file that imports genai-prices, and only when a priced model answers: its table takes a quarter of a second to
import. Each (provider, model) is looked up once. In the usual case (plain prices a million tokens, no audio) what a request used and
costs is then two multiplications of packed numbers (see `amounts`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal, localcontext
from typing import Any, TypeAlias

import attrs

from runmgr.records.budgets import Price

from .amounts import COST_LANE, EXACT, INPUT, OUTPUT, REQUEST, counted, dollars, units
from .tally import has_audio

__all__ = ("UNKNOWN", "ModelPrice", "PriceOf", "Prices")

PriceOf: TypeAlias = Callable[[Any], Decimal | None]
"""From a `RequestUsage` to US dollars; None where that cannot be said."""

_UNPRICED_SYSTEMS = frozenset({"test", "function", "sim"})
_MILLION = Decimal(1_000_000)
_ONE = Decimal(1)


@attrs.frozen
class ModelPrice:
    """What one model's tokens cost, as packed numbers: a token's count, and its price in the lane of dollars."""

    input: int
    output: int
    read: int
    """On top, of an input token that is read from a cache; below 0 where that is cheaper."""
    written: int
    """On top, of one that is written to a cache."""
    most: int
    """Of an input token at most: as if it were written to a cache, where that is dearer."""
    known: bool
    """Whether there is a price at all."""
    special: PriceOf | None
    """Says what a usage costs for which multiplying does not."""
    always_special: bool
    share: Decimal
    """What part of ``special``'s price is charged."""

    def used(self, usage: Any) -> tuple[int, bool]:
        """What a request used, as one number, and whether its cost is known. For any `RequestUsage`."""
        tokens = REQUEST + usage.input_tokens * INPUT + usage.output_tokens * OUTPUT
        if not self.known:
            return tokens, False
        if self.special is not None and (self.always_special or has_audio(usage)):
            cost = self.special(usage)
            return (
                (tokens, False)
                if cost is None
                else (tokens + units(EXACT.multiply(cost, self.share)) * COST_LANE, True)
            )
        return (
            REQUEST
            + usage.input_tokens * self.input
            + usage.output_tokens * self.output
            + usage.cache_read_tokens * self.read
            + usage.cache_write_tokens * self.written,
            True,
        )

    def at_most(self, inputs: int, outputs: int) -> int | None:
        """The most that so many tokens can cost, with them and the request as one number; None where the price is unknown."""
        if not self.known:
            return None
        if not self.always_special:
            return REQUEST + inputs * self.most + outputs * self.output
        from runmgr.usage import RequestUsage

        plain, known = self.used(RequestUsage(input_tokens=inputs, output_tokens=outputs))
        if not known:
            return None
        written, known = self.used(
            RequestUsage(input_tokens=inputs, output_tokens=outputs, cache_write_tokens=inputs)
        )
        return (
            max(plain, written) if known else plain
        )  # but for the dollars, which are uppermost, they are the same


UNKNOWN = ModelPrice(INPUT, OUTPUT, 0, 0, INPUT, False, None, False, _ONE)
"""Of a model whose price nobody knows."""


class Prices:
    """Prices by provider and model, each looked up once.

    Args:
        own: the user's prices by model name; they go first.
    """

    __slots__ = ("_found", "_own")

    def __init__(self, own: Mapping[str, Price] | None = None) -> None:
        self._own = dict(own or {})
        self._found: dict[tuple[str | None, str | None, Decimal | None], ModelPrice] = {}

    def of(self, provider: str | None, model: str | None, share: Decimal | None = None) -> ModelPrice:
        """A model's price.

        Args:
            provider: who serves it.
            model: its name.
            share: what part of the usual price is charged; None: all of it.
        """
        key = (provider, model, share)
        price = self._found.get(key)
        if price is None:
            own = self._own.get(model or "")
            part = _ONE if share is None else share
            price = self._found[key] = _look_up(provider, model, part) if own is None else _own(own, part)
        return price

    def has_own(self, model: str | None) -> bool:
        """Whether the user gave a price of this name."""
        return model in self._own

    def price(self, provider: str | None, model: str | None, usage: Any) -> Decimal | None:
        """US dollars for one request, or None where the price is unknown: never zero instead."""
        packed, known = self.of(provider, model).used(usage)
        return dollars(counted(packed)[5]) if known else None


def _own(price: Price, share: Decimal) -> ModelPrice:
    given = {
        name: EXACT.divide(Decimal(str(value)), _MILLION)
        for name in ("input", "output", "cache_read", "cache_write")
        if (value := getattr(price, name)) is not None
    }
    return _linear(
        given["input"], given["output"], given.get("cache_read"), given.get("cache_write"), share, None
    )


def _linear(
    inputs: Decimal,
    outputs: Decimal,
    read: Decimal | None,
    written: Decimal | None,
    share: Decimal,
    with_audio: PriceOf | None,
) -> ModelPrice:
    """Of dollars a token; without a price of their own, tokens of caches cost what others do."""
    each = units(EXACT.multiply(inputs, share))
    to_read, to_write = (
        each if price is None else units(EXACT.multiply(price, share)) for price in (read, written)
    )
    return ModelPrice(
        input=INPUT + each * COST_LANE,
        output=OUTPUT + units(EXACT.multiply(outputs, share)) * COST_LANE,
        read=(to_read - each) * COST_LANE,
        written=(to_write - each) * COST_LANE,
        most=INPUT + max(each, to_write) * COST_LANE,
        known=True,
        special=with_audio,
        always_special=False,
        share=share,
    )


def _look_up(provider: str | None, model: str | None, share: Decimal) -> ModelPrice:
    if not model or provider in _UNPRICED_SYSTEMS:
        return UNKNOWN
    from datetime import UTC, datetime

    from genai_prices.data_snapshot import get_snapshot

    try:
        found_provider, found_model = get_snapshot().find_provider_model(model, None, provider, None)
    except LookupError:
        return UNKNOWN

    def calculate(usage: Any) -> Decimal | None:
        try:
            with localcontext(EXACT):
                return found_model.calc_price(usage, found_provider).total_price
        except (LookupError, ValueError):  # such as audio for a model without a price for audio
            return None

    special = attrs.evolve(UNKNOWN, known=True, special=calculate, always_special=True, share=share)
    per_token: dict[str, Decimal] = {}
    for name, value in vars(found_model.get_prices(datetime.now(tz=UTC))).items():
        if value is None or name.startswith("_"):
            continue
        if not isinstance(value, Decimal):
            return special  # tiers
        per_token[name] = EXACT.divide(value, _MILLION)
    if isinstance(found_model.prices, list) or not {"input_mtok", "output_mtok"} <= per_token.keys():
        return special  # prices that change with time
    return _linear(
        per_token["input_mtok"],
        per_token["output_mtok"],
        per_token.get("cache_read_mtok"),
        per_token.get("cache_write_mtok"),
        share,
        calculate,
    )
