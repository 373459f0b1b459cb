"""What a request costs, by genai-prices. The only file that imports it, and only when a priced model answers.

Importing the price table takes a quarter of a second, so it waits until it is needed; each (provider, model) is looked up
once, and the usual case (plain prices a million tokens, no audio) is then a few multiplications.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeAlias

__all__ = ("PriceOf", "Prices")

PriceOf: TypeAlias = Callable[[Any], Decimal | None]
"""From a `RequestUsage` to US dollars; None where that cannot be said."""

_UNPRICED_SYSTEMS = frozenset({"test", "function", "sim"})
_MILLION = Decimal(1_000_000)


class Prices:
    """Prices by provider and model, each looked up once."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: dict[tuple[str | None, str | None], PriceOf | None] = {}

    def price(self, provider: str | None, model: str | None, usage: Any) -> Decimal | None:
        """US dollars for one request, or None where the price is unknown: never zero instead."""
        key = (provider, model)
        try:
            price_of = self._found[key]
        except KeyError:
            price_of = self._found[key] = _look_up(provider, model)
        return None if price_of is None else price_of(usage)


def _look_up(provider: str | None, model: str | None) -> PriceOf | None:
    if not model or provider in _UNPRICED_SYSTEMS:
        return None
    from datetime import UTC, datetime

    from genai_prices.data_snapshot import get_snapshot

    try:
        found_provider, found_model = get_snapshot().find_provider_model(model, None, provider, None)
    except LookupError:
        return None
    now = datetime.now(tz=UTC)
    prices = found_model.get_prices(now)

    def calculate(usage: Any) -> Decimal | None:
        try:
            return found_model.calc_price(usage, found_provider).total_price
        except (
            LookupError,
            ValueError,
        ):  # a usage that the table cannot price, such as audio without an audio price
            return None

    per_token: dict[str, Decimal] = {}
    for name, value in vars(prices).items():
        if value is None or name.startswith("_"):
            continue
        if not isinstance(value, Decimal):
            return calculate  # tiers
        per_token[name] = value / _MILLION
    if not {"input_mtok", "output_mtok"} <= per_token.keys() or isinstance(found_model.prices, list):
        return calculate  # prices that change with the time of day
    input_price = per_token["input_mtok"]
    output_price = per_token["output_mtok"]
    read_price = per_token.get("cache_read_mtok", input_price)
    write_price = per_token.get("cache_write_mtok", input_price)

    def multiply(usage: Any) -> Decimal | None:
        if usage.input_audio_tokens or usage.output_audio_tokens or usage.cache_audio_read_tokens:
            return calculate(usage)
        read, written = usage.cache_read_tokens, usage.cache_write_tokens
        cost = usage.input_tokens * input_price + usage.output_tokens * output_price
        if read or written:
            cost += read * (read_price - input_price) + written * (write_price - input_price)
        return cost

    return multiply
