"""What a request costs: by the user's own prices, else by genai-prices.

The only file that imports genai-prices, and only when a priced model answers: its table takes a quarter of a second to
import. Each (provider, model) is looked up once; the usual case (plain prices a million tokens, no audio) is then a few
multiplications.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, TypeAlias

from runmgr.records.budgets import Price

__all__ = ("PriceOf", "Prices")

PriceOf: TypeAlias = Callable[[Any], Decimal | None]
"""From a `RequestUsage` to US dollars; None where that cannot be said."""

_UNPRICED_SYSTEMS = frozenset({"test", "function", "sim"})
_MILLION = Decimal(1_000_000)
_ZERO = Decimal(0)


class Prices:
    """Prices by provider and model, each looked up once.

    Args:
        own: the user's prices by model name; they go first.
    """

    __slots__ = ("_ceilings", "_found", "_own")

    def __init__(self, own: Mapping[str, Price] | None = None) -> None:
        self._own = dict(own or {})
        self._found: dict[tuple[str | None, str | None], PriceOf | None] = {}
        self._ceilings: dict[tuple[str | None, str | None], tuple[Decimal, Decimal]] = {}

    def price(self, provider: str | None, model: str | None, usage: Any) -> Decimal | None:
        """US dollars for one request, or None where the price is unknown: never zero instead."""
        key = (provider, model)
        try:
            price_of = self._found[key]
        except KeyError:
            own = self._own.get(model or "")
            if own is not None:
                given = _per_token(own)
                self._ceilings[key] = (max(given["input"], given.get("cache_write", _ZERO)), given["output"])
                price_of = self._found[key] = _own(given)
            else:
                price_of = self._found[key] = _look_up(provider, model)
        return None if price_of is None else price_of(usage)

    def at_most(self, provider: str | None, model: str | None, inputs: int, outputs: int) -> Decimal | None:
        """The most that so many tokens can cost: as if all input were written to a cache, where that is dearer."""
        ceiling = self._ceilings.get((provider, model))
        if ceiling is not None:
            return inputs * ceiling[0] + outputs * ceiling[1]
        from runmgr.usage import RequestUsage

        plain = self.price(provider, model, RequestUsage(input_tokens=inputs, output_tokens=outputs))
        if plain is None:
            return None
        written = RequestUsage(input_tokens=inputs, output_tokens=outputs, cache_write_tokens=inputs)
        return max(plain, self.price(provider, model, written) or plain)


def _per_token(price: Price) -> dict[str, Decimal]:
    return {
        name: Decimal(str(value)) / _MILLION
        for name in ("input", "output", "cache_read", "cache_write")
        if (value := getattr(price, name)) is not None
    }


def _own(given: dict[str, Decimal]) -> PriceOf:
    return _multiply(
        given["input"],
        given["output"],
        given.get("cache_read", given["input"]),
        given.get("cache_write", given["input"]),
        None,
    )


def _multiply(
    input_price: Decimal,
    output_price: Decimal,
    read_price: Decimal,
    write_price: Decimal,
    with_audio: PriceOf | None,
) -> PriceOf:
    def multiply(usage: Any) -> Decimal | None:
        if with_audio is not None and (
            usage.input_audio_tokens or usage.output_audio_tokens or usage.cache_audio_read_tokens
        ):
            return with_audio(usage)
        cost = usage.input_tokens * input_price + usage.output_tokens * output_price
        read, written = usage.cache_read_tokens, usage.cache_write_tokens
        if read or written:
            cost += read * (read_price - input_price) + written * (write_price - input_price)
        return cost

    return multiply


def _look_up(provider: str | None, model: str | None) -> PriceOf | None:
    if not model or provider in _UNPRICED_SYSTEMS:
        return None
    from datetime import UTC, datetime

    from genai_prices.data_snapshot import get_snapshot

    try:
        found_provider, found_model = get_snapshot().find_provider_model(model, None, provider, None)
    except LookupError:
        return None

    def calculate(usage: Any) -> Decimal | None:
        try:
            return found_model.calc_price(usage, found_provider).total_price
        except (LookupError, ValueError):  # such as audio for a model without a price for audio
            return None

    per_token: dict[str, Decimal] = {}
    for name, value in vars(found_model.get_prices(datetime.now(tz=UTC))).items():
        if value is None or name.startswith("_"):
            continue
        if not isinstance(value, Decimal):
            return calculate  # tiers
        per_token[name] = value / _MILLION
    if isinstance(found_model.prices, list) or not {"input_mtok", "output_mtok"} <= per_token.keys():
        return calculate  # prices that change with time
    return _multiply(
        per_token["input_mtok"],
        per_token["output_mtok"],
        per_token.get("cache_read_mtok", per_token["input_mtok"]),
        per_token.get("cache_write_mtok", per_token["input_mtok"]),
        calculate,
    )
