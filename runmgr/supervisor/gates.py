"""Everything that requests share: models and their doors, rates, budget, prices, and when a failed request is sent again."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import trio

from runmgr.concurrency import Timers, full_jitter, shielded_cleanup
from runmgr.exceptions import UserError
from runmgr.models.retry import RetryPolicy, classify, delay, retry_after

from .bounds import Bound
from .budget import Amount, Purse
from .doors import ModelDoor
from .ledger import Ledger
from .pricing import Prices
from .rates import RateDoor

if TYPE_CHECKING:
    from runmgr.records.budgets import Price, RateLimit, RestartPolicy

    from .actor import Actor

__all__ = ("Gates",)

CLOSING_SECONDS = 5.0
"""How long closing the models may take."""
MAX_BACKOFF = 300.0
"""Seconds: no run waits longer to begin again."""


class Gates:
    """The shared half of `runmgr.supervisor.doors`. See `open_supervisor` for the arguments."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        rate_limits: Mapping[str, RateLimit] | RateLimit | None,
        prices: Mapping[str, Price] | None,
        retry_policy: RetryPolicy,
        restart: RestartPolicy | None,
        rng: random.Random,
    ) -> None:
        self._ledger = ledger
        self._rate_limits = rate_limits
        self._retry_policy = retry_policy
        self._rng = rng
        self._rates: dict[tuple[str, str, str | None], RateDoor] = {}
        self._named: dict[str, Any] = {}
        self._models = AsyncExitStack()
        self.restart = restart
        self.prices = Prices(prices)
        self.doors: dict[int, ModelDoor] = {}
        """By the id of the model."""
        self.purse: Purse | None = None
        self.lost = Amount()
        """What requests may have cost whose answer never came: budgets count it, `usage` does not."""
        self.timers = Timers()
        """Set when the supervisor is entered."""

    def named(self, name: str) -> Any:
        """The model of a string such as ``openai:gpt-4o``, the same object each time.

        Raises:
            UserError: there is none, or its key is missing.
        """
        model = self._named.get(name)
        if model is None:
            from runmgr.models import infer_model

            model = self._named[name] = infer_model(name)
        return model

    async def open_door(self, model: Any) -> ModelDoor:
        """The first request to a model: what all requests to it will share. The model is closed with the supervisor."""
        name, system = model.model_name, model.system
        limit = self._rate_limits
        if isinstance(limit, Mapping):
            limit = limit.get(f"{system}:{name}") or limit.get(name)
        rate: RateDoor | None = None
        if limit is not None:
            key = (system, name, model.base_url)
            rate = self._rates.get(key)
            if rate is None:
                rate = self._rates[key] = RateDoor(limit)
        door = self.doors[id(model)] = ModelDoor(model, self._ledger.model(name), rate)
        with trio.CancelScope(shield=True):  # quick: nothing is connected here
            await self._models.enter_async_context(model)
        return door

    async def close_models(self) -> None:
        """Close the models that were asked, within a bound."""
        with shielded_cleanup(CLOSING_SECONDS):
            await self._models.aclose()

    def spent_before(self) -> Amount:
        """What earlier processes spent on the same journal, and may have lost."""
        prior = self._ledger.prior
        amount = Amount(prior.requests, prior.input_tokens, prior.output_tokens, prior.cost)
        amount.add(self.lost)
        return amount

    def need(self, door: ModelDoor, bound: Callable[[], Bound]) -> Amount:
        """What the budget must have room for before a request is sent.

        Raises:
            UserError: there is a budget of cost, and the model's price is unknown.
        """
        assert self.purse is not None
        meter = self.purse.meter
        limits = meter.limits
        if not limits.keys() - {"requests"}:
            return Amount(1)
        inputs, outputs, proven = bound()
        if not proven:
            meter.unbounded += 1
        if "cost" not in limits:
            return Amount(1, inputs, outputs)
        cost = self.prices.at_most(door.system, door.name, inputs, outputs)
        if cost is None:
            raise UserError(
                f"the budget limits the cost, but what {door.name!r} costs is unknown: give "
                f"open_supervisor(prices={{{door.name!r}: Price(input=..., output=...)}}) in dollars a million tokens"
            )
        return Amount(1, inputs, outputs, cost)

    def retry_delay(self, error: Exception, attempt: int) -> float | None:
        """Seconds until the request is sent again after try number ``attempt``, or None where it is not."""
        if attempt > self._retry_policy.max_retries or classify(error) is None:
            return None
        return delay(attempt, self._retry_policy, self._rng, retry_after(error))

    def restart_delay(self, actor: Actor, error: Exception) -> float | None:
        """Seconds until a failed run begins again, or None where it does not: see `RestartPolicy`."""
        policy = self.restart
        if policy is None or classify(error) is None:
            return None
        now = trio.current_time()
        restarts = actor._restarts
        if restarts is None:
            restarts = actor._restarts = []
        if policy.within is not None:
            restarts[:] = [time for time in restarts if now - time < policy.within]
        if len(restarts) >= policy.max_restarts:
            return None
        restarts.append(now)
        return full_jitter(len(restarts) - 1, base=policy.backoff, cap=MAX_BACKOFF, rng=self._rng)
