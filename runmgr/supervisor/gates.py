"""Everything that requests share: models and their doors, rates, budgets, prices, and when a failed request is sent again."""

from __future__ import annotations

import random
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, cast

import trio

from runmgr.concurrency import Timers, full_jitter, shielded_cleanup
from runmgr.exceptions import UserError
from runmgr.models.retry import RetryClass, RetryPolicy, classify, delay, retry_after
from runmgr.records.budgets import Budget, RateLimit

from .adaptive import first_limit
from .amounts import Amount, pack
from .bounds import CountTokens
from .breaker import BreakerGate, BreakerPolicy
from .budget import Meter, Meters, Purse
from .group_rates import GroupRate
from .hedge import Hedging
from .ledger import Ledger, Tally
from .model_door import ModelDoor, is_made_of_others
from .pricing import Prices
from .rates import RateDoor
from .retry_budget import RetryBudget
from .tally import RunTally, summed

if TYPE_CHECKING:
    from runmgr.records.budgets import Hedge, Price, RestartPolicy
    from runmgr.records.snapshots import ModelState

    from .actor import Actor
    from .behalf import Behalf
    from .cache import Cache

__all__ = ("Gates",)

CLOSING_SECONDS = 5.0
"""How long closing the models may take."""
MAX_BACKOFF = 300.0
"""Seconds: no run waits longer to begin again."""
_UNTOLD = RateLimit()


class Gates:
    """The shared half of `runmgr.supervisor.doors`. See `open_supervisor` for the arguments."""

    __slots__ = (
        "_breaker",
        "_breakers",
        "_by_name",
        "_hedge",
        "_ledger",
        "_max_running",
        "_models",
        "_named",
        "_rate_limits",
        "_rates",
        "_retry_policy",
        "_rng",
        "_tokenizers",
        "behalf",
        "cache",
        "doors",
        "group_rates",
        "lost",
        "metered",
        "parts",
        "prices",
        "purse",
        "restart",
        "services",
        "spent_by_group_before",
        "spent_by_run_before",
        "timers",
    )

    def __init__(
        self,
        ledger: Ledger,
        *,
        rate_limits: Mapping[str, RateLimit] | RateLimit | None,
        prices: Mapping[str, Price] | None,
        retry_policy: RetryPolicy,
        restart: RestartPolicy | None,
        rng: random.Random,
        hedge: Hedge | None = None,
        max_running: int = 0,
        breaker: BreakerPolicy | None = None,
        tokenizers: Mapping[str, CountTokens] | None = None,
    ) -> None:
        self._ledger = ledger
        self._rate_limits = rate_limits
        self._retry_policy = retry_policy
        self._rng = rng
        self._hedge = hedge
        self._tokenizers = dict(tokenizers or {})
        self._max_running = max_running
        self._rates: dict[tuple[Any, ...], RateDoor] = {}
        self._breaker = breaker
        self._breakers: dict[tuple[Any, ...], BreakerGate] = {}
        self._named: dict[str, Any] = {}
        self._models = AsyncExitStack()
        self.restart = restart
        self.prices = Prices(prices)
        self.doors: dict[int, ModelDoor] = {}
        """By the id of the model."""
        self._by_name: dict[str, ModelDoor] = {}
        """The first of each name."""
        self.group_rates: dict[str, GroupRate] = {}
        """Of groups that have a rate of their own, over all models."""
        self.purse: Purse | None = None
        self.cache: Cache | None = None
        self.lost = Amount()
        """What requests may have cost whose answer never came, or came from a model of unknown price: budgets count it, `usage` does not."""
        self.spent_by_group_before: dict[str, Amount] = {}
        """What earlier processes spent of groups' budgets on the same journal, with what they may have lost."""
        self.spent_by_run_before: dict[str, Amount] = {}
        """The same of open runs' own budgets."""
        self.metered: dict[str, Meter] = {}
        """Of live runs with a budget of their own, by their ids."""
        self.timers = Timers()
        """Set when the supervisor is entered."""
        self.services: trio.Nursery | None = None
        """Likewise."""
        self.parts: Mapping[str, RateLimit | None] | None = None
        """Parts of limits, where others have the rest: see `set_parts`."""
        self.behalf: Behalf | None = None
        """Whom it works for, where another supervisor counts what its runs use."""

    # ---------------------------------------------------------------- models

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
        name, system, url = model.model_name, model.system, model.base_url
        told = self._rate_limits
        if isinstance(told, Mapping):
            told = told.get(f"{system}:{name}") or told.get(name)
        part = self._part(system, name)
        told = told if part is None else part[0] or _UNTOLD
        rate: RateDoor | None = None
        has_parts = is_made_of_others(model)  # each part has a door of its own
        if not has_parts and (
            told is not None or url is not None
        ):  # what runs in this process has no provider to find the limits of
            key = (system, name, url, _credential(model))
            rate = self._rates.get(key)
            if rate is None:
                rate = self._rates[key] = RateDoor(
                    told or _UNTOLD,
                    adapt=True,
                    services=self.services,
                    initial=first_limit(self._max_running),
                )
                rate.closed = part is not None and part[0] is None
        breaker: BreakerGate | None = None
        if self._breaker is not None and not has_parts:
            key = (system, name, url)
            breaker = self._breakers.get(key)
            if breaker is None:
                breaker = self._breakers[key] = BreakerGate(self._breaker)
        door = self.doors[id(model)] = ModelDoor(
            model,
            self._ledger.served(system or "", name),
            rate,
            RetryBudget(self._retry_policy.share),
            None if self._hedge is None else Hedging(self._hedge),
            breaker,
            has_parts=has_parts,
            tokenizer=self._tokenizers.get(f"{system}:{name}") or self._tokenizers.get(name),
        )
        self._by_name.setdefault(door.name, door)
        door.make_room(self._max_running)
        with trio.CancelScope(shield=True):  # quick: nothing is connected here
            await self._models.enter_async_context(model)
        self._models.callback(door.listen())
        return door

    def limits(self) -> tuple[dict[str, RateLimit], dict[str, RateLimit]]:
        """What was told: by model (``''``: every other one), and by group."""
        told = self._rate_limits
        models = {"": told} if isinstance(told, RateLimit) else dict(told or {})
        return models, {group: door.limit for group, door in self.group_rates.items()}

    def _part(self, system: str | None, name: str) -> tuple[RateLimit | None] | None:
        """This supervisor's part of a model's limit; None where it has no parts."""
        parts = self.parts
        if parts is not None:
            for key in (f"{system}:{name}", name, ""):
                if key in parts:
                    return (parts[key],)
        return None

    def set_parts(
        self, models: Mapping[str, RateLimit | None], groups: Mapping[str, RateLimit | None]
    ) -> None:
        """Follow other parts of limits from now on, of which others have the rest. None: nothing may be sent.

        Args:
            models: by model name (or ``system:name``); ``''`` is every other model.
            groups: of groups that have a rate over all models.
        """
        self.parts = models
        for (system, name, *_), door in self._rates.items():
            part = self._part(system, name)
            if part is not None:
                door.follow(part[0])
        for group, limit in groups.items():
            door = self.group_rates.get(group)
            if door is None:
                door = self.group_rates[group] = GroupRate(group, limit or _UNTOLD, self.services)
                door.closed = limit is None
            else:
                door.follow(limit)

    @property
    def exceeded(self) -> bool:
        """Whether more is in flight anywhere than may be since a limit fell."""
        return any(door.exceeded for doors in (self._rates, self.group_rates) for door in doors.values())

    async def close_models(self) -> None:
        """Close the models that were asked, within a bound."""
        with shielded_cleanup(CLOSING_SECONDS):
            await self._models.aclose()

    # ---------------------------------------------------------------- budgets

    def set_up_budgets(
        self, root: Budget | None, groups: Mapping[str, Budget] | Budget | None, run: Budget | None
    ) -> None:
        """Make the purse, where there is any budget."""
        if root is not None or groups or run is not None:
            self.purse = Purse(
                self.spent_before,
                root=root,
                groups=groups if groups is None or isinstance(groups, Budget) else dict(groups),
                run=run,
            )

    def set_budget(self, budget: Budget, *, group: str | None = None, actor: Actor | None = None) -> None:
        """See `Supervisor.set_budget`."""
        purse = self.purse
        if purse is None:
            purse = self.purse = Purse(self.spent_so_far)
        if actor is not None:
            actor._job.budget = budget
            tally: Any = actor._tally
            known = None if tally is None else tally.meter
            meter = self.tally(actor).meter
            if meter is known:
                purse.set_run(meter, budget)
            else:
                purse.late.add(meter)
        elif group is not None:
            purse.set_group(group, budget, self.spent_so_far)
        else:
            purse.set_root(budget)

    def drop_group(self, name: str) -> None:
        """Forget a group without live runs: its rate, its budget and what it spent; its share of the sums stays."""
        self.group_rates.pop(name, None)
        self.spent_by_group_before.pop(name, None)
        if self.purse is not None:
            self.purse.drop_group(name)
        self._ledger.drop_group(name)

    def tally(self, actor: Actor) -> Any:
        """The run's tally, with its account and its own budget."""
        tally: Any = actor._tally
        if tally is None:
            tally = actor._tally = RunTally(self._ledger.account(actor.group, actor._job.name))
        if tally.meter is None and self.purse is not None:
            budget = actor._job.budget or self.purse.run
            if budget is not None:
                spent = Amount()
                for part in (tally, actor._before):
                    if part is not None:
                        spent.add(Amount.of(part.packed))
                known = self.spent_by_run_before.pop(actor.run_id, None)
                if known is not None:
                    spent.raise_to(known)
                tally.meter = self.metered[actor.run_id] = Meter(budget, spent, f"run {actor.run_id}")
        return tally

    def run_ended(self, actor: Actor, meter: Meter, *, stays_open: bool) -> None:
        """A run with a budget of its own has ended, or is to go on later: then what it lost is remembered."""
        self.metered.pop(actor.run_id, None)
        if self.purse is not None:
            self.purse.late.discard(meter)
        paid = actor.paid()
        if stays_open and (paid is None or meter.spent.requests > paid.requests):
            self.spent_by_run_before[actor.run_id] = meter.spent

    def count_tool_calls(self, actor: Actor, count: int) -> None:
        """A run's tools were called so often; they are the model's that asked for them."""
        tally = self.tally(actor)
        name = actor._model or ""
        door = self._by_name.get(name)
        served = self._ledger.served("", name) if door is None else door.tally
        self._ledger.count_tool_calls(tally, tally.account, served, count)
        if self.behalf is not None:
            self.behalf.called_tools(actor, "" if door is None else door.system or "", name, count)

    def served(self, provider: str, model: str) -> Tally:
        """The tally of a provider's model, also of one that is only asked elsewhere."""
        return self._ledger.served(provider, model)

    def spent_before(self, group: str | None = None) -> Amount:
        """What earlier processes spent on the same journal, and may have lost."""
        amount = Amount()
        if group is not None:
            amount.add(self.spent_by_group_before.get(group, amount))
            return amount
        amount.add(Amount.of(self._ledger.prior.packed))
        amount.add(self.lost)
        return amount

    def spent_by_group(self) -> dict[str, list[Any]]:
        """What groups with budgets have spent, for the journal: over all processes, with what may be lost or is reserved."""
        spent = dict(self.spent_by_group_before)
        if self.purse is not None:
            for name, meter in self.purse.budgeted_groups.items():
                spent[name] = Amount.of(meter.bound)
        return {name: one.to_list() for name, one in spent.items()}

    def spent_by_run(self) -> dict[str, list[Any]]:
        """What open runs have spent of their own budgets, likewise."""
        spent = dict(self.spent_by_run_before)
        for run_id, meter in self.metered.items():
            spent[run_id] = Amount.of(meter.bound)
        return {run_id: one.to_list() for run_id, one in spent.items()}

    @property
    def has_nested_budgets(self) -> bool:
        """Whether groups or runs have budgets of their own."""
        return bool(self.metered) or (self.purse is not None and self.purse.is_nested)

    def spent_so_far(self, group: str | None = None) -> Amount:
        """The same with what this process has spent: for a budget that comes later."""
        amount = self.spent_before(group)
        now = self._ledger.total if group is None else self._ledger.group(group)
        amount.add(Amount.of(now.packed))
        return amount

    def need(self, door: ModelDoor, meters: Meters, inputs: int, outputs: int) -> int:
        """What the budgets must have room for before a request is sent, as one number: with its cost where any of them is about that.

        Raises:
            UserError: there is a budget of cost, and the model's price is unknown.
        """
        price = door.expected
        if price is None:
            price = door.expected = self.prices.of(door.system, door.name, door.price_share)
        most = price.at_most(inputs, outputs)
        if most is not None:
            return most
        for meter in meters:
            if meter.needs & Meter.COST:
                raise UserError(
                    f"the budget of the {meter.scope} limits the cost, but what {door.name!r} costs is unknown: give "
                    f"open_supervisor(prices={{{door.name!r}: Price(input=..., output=...)}}) in dollars a million tokens"
                )
        return pack(1, inputs, outputs)

    # ---------------------------------------------------------------- how they stand

    def model_states(self, wall_offset: float) -> dict[str, ModelState]:
        """By the model's name; doors of one name in one."""
        now = trio.current_time()
        tallies = self._ledger.by("model", tuple)
        states: dict[str, ModelState] = {}
        for door in self.doors.values():
            if door.has_parts and not door.cached:
                continue
            cool = None if door.rate is None or door.rate.cool_until <= now else door.rate.cool_until
            tally = tallies.get(door.name, door.tally)
            cost = tally.known_cost
            states[door.name] = door.state(
                tally.usage(),
                None if cost is None else str(cost),
                None if cool is None else wall_offset + cool,
                states.get(door.name),
            )
        return states

    def budget_states(self) -> dict[str, Any]:
        """The fields of a `SupervisorSnapshot` that are about money."""
        purse, lost = self.purse, self.lost
        in_vain = summed(
            tally for status, tally in self._ledger.by_status().items() if status not in {"succeeded", "live"}
        )
        limited = purse is not None and bool(purse.root.limits)
        return {
            "budget": purse.root.state() if purse is not None and limited else None,
            "group_budgets": {}
            if purse is None
            else {name: meter.state() for name, meter in purse.budgeted_groups.items()},
            "of_no_avail": None if in_vain.is_empty else in_vain.usage(),
            "lost": {
                name: str(value) if name == "cost" else value
                for name in ("requests", "input_tokens", "output_tokens", "cost")
                if (value := getattr(lost, name))
            },
        }

    # ---------------------------------------------------------------- failures

    @property
    def tries(self) -> int:
        """How often one request may be sent."""
        return 1 + self._retry_policy.max_retries

    def retry_delay(self, door: ModelDoor, error: Exception, attempt: int) -> float | None:
        """Seconds until the request is sent again after try number ``attempt``, or None where it is not."""
        policy = self._retry_policy
        if attempt > policy.max_retries:
            return None
        kind = classify(error)
        if kind is None:
            return None
        wait = delay(attempt, policy, self._rng, retry_after(error))
        door.resent += 1
        if kind is not RetryClass.RATE_LIMIT:
            wait = max(wait, door.retries.resend(trio.current_time()))
        return wait

    def restart_delay(self, actor: Actor, error: Exception) -> float | None:
        """Seconds until a failed run begins again, or None where it does not: see `RestartPolicy`."""
        policy = self.restart
        if policy is None or classify(error) not in policy.on:
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


def _credential(model: Any) -> int | None:
    """What tells apart models of one name that are asked with different keys; never shown."""
    headers: Any = getattr(getattr(model, "client", None), "_headers", None)
    if not isinstance(headers, dict):
        return None
    given = cast("dict[str, str]", headers)
    return hash(
        tuple(given.get(name) for name in ("authorization", "x-api-key", "x-goog-api-key", "api-key"))
    )
