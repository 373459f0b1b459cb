"""What all requests to one model share."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

import trio

from runmgr.exceptions import ModelAPIError, ModelHTTPError
from runmgr.models.base import Model
from runmgr.models.fallback import FallbackModel
from runmgr.models.rate_headers import rate_headers
from runmgr.models.wrapper import WrapperModel
from runmgr.records.snapshots import ModelState

from .amounts import OPEN, REQUEST, Amount
from .rates import Booking

if TYPE_CHECKING:
    from .actor import Actor
    from .bounds import CountTokens
    from .breaker import BreakerGate
    from .budget import Meters
    from .group_rates import GroupRate
    from .hedge import Hedging
    from .ledger import Tally
    from .pricing import ModelPrice, Prices
    from .rates import RateDoor
    from .retry_budget import RetryBudget

__all__ = ("Entry", "ModelDoor", "is_made_of_others")


def is_made_of_others(model: Any) -> bool:
    """Whether it is a fallback, however wrapped."""
    while isinstance(model, WrapperModel):
        model = model.wrapped
    return isinstance(model, FallbackModel)


class Entry(Booking):
    """What one request needs at the doors, and holds once it is through: permits, booked tokens, reservations."""

    __slots__ = ("counted", "group_booking", "group_rate", "meters", "need")

    def __init__(self) -> None:  # not the other one's: what that sets is set where it is known
        self.counted = False
        """Whether its tokens are booked at its model's rate."""
        self.meters: Meters = ()
        self.need = 0
        """What is reserved at the budgets, as one number (see `amounts`); 0: nothing."""
        self.group_rate: GroupRate | None = None
        """The rate of the run's group, where it has one of its own."""
        self.group_booking: Booking | None = None

    @property
    def booking(self) -> Booking | None:
        """What is booked at its model's rate, if anything."""
        return self if self.counted else None

    def leave_group(self) -> None:
        """Give back permit and turn at the group's rate of a request that is not sent."""
        if self.group_rate is not None:
            self.group_rate.give_back(self.group_booking)
            self.group_rate.leave()


class ModelDoor:
    """What all requests to one model share.

    Args:
        model: the model.
        tally: what it served.
        rate: its rate door, shared with equal models; None where nothing limits it.
        retries: how many resends it may get.
        breaker: shared with equal models; None where there is none.
        hedging: when a second copy is sent, where that is asked for.
        has_parts: it is made of other models, and each is asked through a door of its own.
        tokenizer: what bounds of its input are counted with; None: bytes.
    """

    __slots__ = (
        "breaker",
        "cached",
        "counts",
        "expected",
        "failed",
        "halves",
        "has_parts",
        "hedging",
        "in_flight",
        "keeps_answers",
        "model",
        "name",
        "price",
        "price_share",
        "priced",
        "rate",
        "refused",
        "resent",
        "retries",
        "room",
        "sent",
        "system",
        "tally",
        "tokenizer",
    )

    def __init__(
        self,
        model: Any,
        tally: Tally,
        rate: RateDoor | None,
        retries: RetryBudget,
        hedging: Hedging | None,
        breaker: BreakerGate | None,
        *,
        has_parts: bool = False,
        tokenizer: CountTokens | None = None,
    ) -> None:
        self.model = model  # held, so that its id stays its own
        self.name: str = model.model_name
        self.system: str | None = model.system
        self.tally = tally
        self.rate = rate
        self.retries = retries
        self.halves = model.in_halves() if hedging is None else None
        """Of its requests, where they have any and one is sent at a time."""
        self.hedging = hedging
        self.breaker = breaker
        self.has_parts = has_parts
        self.tokenizer = tokenizer
        self.in_flight = 0
        """Requests that are sent and not answered."""
        self.sent = self.failed = self.refused = self.resent = self.cached = 0
        kind = cast("type[Model]", type(model))
        self.counts = model.base_url is not None and kind.count_tokens is not Model.count_tokens
        """Whether the provider counts the tokens of a request before it is sent."""
        self.price_share: Decimal | None = getattr(model, "price_share", None)
        """What part of the usual price is charged; None: all of it."""
        self.keeps_answers: bool = getattr(model, "keeps_answers", False)
        """Whether an answer that was not waited for can still be had: then nothing is lost with it."""
        self.expected: ModelPrice | None = None
        """The price of what is asked, once a budget is about cost."""
        self.price: ModelPrice | None = None
        """Of what answered last, which is ``priced``."""
        self.priced: tuple[str | None, str | None] = (None, None)
        """Provider and name of what answered last."""
        self.room = math.inf
        """Requests at once that its client has connections for."""

    def make_room(self, connections: int) -> None:
        """Let the model's client have at least so many connections open."""
        for model in getattr(self.model, "models", None) or (self.model,):
            client: Any = getattr(model, "client", None)
            pool: Any = getattr(client, "pool", None)
            if callable(pool):
                found: Any = pool()
                if found.limit < connections:
                    client.resize(connections)
                self.room = max(found.limit, connections)

    def count_in(self) -> None:
        """One more is sent."""
        self.in_flight = count = self.in_flight + 1
        self.sent += 1
        if count > self.room:
            self.make_room(2 * count)

    def listen(self) -> Callable[[], None]:
        """Hear of the provider's limits in the headers of its answers; gives what ends that."""
        rate = self.rate
        listeners: Any = getattr(self.model, "header_listeners", None)
        if rate is None or not isinstance(listeners, list):
            return lambda: None

        def hear(headers: list[tuple[bytes, bytes]]) -> None:
            quotas = rate_headers(headers)
            if quotas:
                rate.heard(trio.current_time(), quotas)

        listeners.append(hear)  # pyright: ignore[reportUnknownMemberType]
        return lambda: listeners.remove(hear)  # pyright: ignore[reportUnknownMemberType]

    def price_of(self, prices: Prices, provider: str | None, model: str | None) -> ModelPrice:
        """The price of what answered; looked up where it is not what answered last. Of what is asked, where the user gave one of that: many
        answer by a longer name, such as one with a date.
        """
        self.priced = (provider, model)
        if not model or (prices.has_own(self.name) and not prices.has_own(model)):
            model = self.name
        price = self.price = prices.of(provider or self.system, model, self.price_share)
        return price

    def leave(self, entry: Entry) -> None:
        """Give back permit and turn of a request that is not sent."""
        rate = self.rate
        if rate is not None:
            rate.give_back(entry.booking)
            rate.leave()
        entry.leave_group()

    def charges(self, error: BaseException | None) -> bool:
        """Whether a request that ended so may have been charged for; None: nobody waited for its end.

        An error status is not charged for, nor what was never sent. Of everything else nobody can say: the answer may have been made and lost.
        """
        if self.keeps_answers or isinstance(error, ModelHTTPError):
            return False
        return not (isinstance(error, ModelAPIError) and error._unsent)

    def give_up(self, actor: Actor, entry: Entry, *, charged: bool) -> None:
        """Give back what a request held that got no answer.

        Args:
            actor: whose it is.
            entry: what it held.
            charged: whether it may have been charged for: then its bound stays spent.
        """
        rate = self.rate
        if rate is not None:
            if entry.counted and not charged:
                rate.forget(entry)
            rate.leave()
        if entry.group_rate is not None:
            if entry.group_booking is not None and not charged:
                entry.group_rate.forget(entry.group_booking)
            entry.group_rate.leave()
        need = entry.need
        if need:
            gates = actor._sup.gates
            assert gates.purse is not None
            used = need if charged else REQUEST + (need & OPEN)
            gates.lost.add(Amount.of(used))
            gates.purse.settle(entry.meters, need, used)
            if gates.purse.late:
                gates.purse.settle_late(entry.meters, actor.group, gates.tally(actor).meter, used)

    def state(
        self, usage: Any, cost: str | None, cooling_until: float | None, seen: ModelState | None
    ) -> ModelState:
        """How it stands, together with what was seen of another door of the same name."""
        rate = self.rate
        adaptive = None if rate is None else rate.adaptive
        return ModelState(
            usage=usage,
            cost=cost,
            in_flight=self.in_flight + (0 if seen is None else seen.in_flight),
            in_flight_limit=None if rate is None else rate.in_flight_limit,
            waiting=0 if rate is None else rate.waiting,
            latency=None if adaptive is None else adaptive.latency,
            sent=self.sent + (0 if seen is None else seen.sent),
            failed=self.failed + (0 if seen is None else seen.failed),
            refused=self.refused + (0 if seen is None else seen.refused),
            resent=self.resent + (0 if seen is None else seen.resent),
            hedged=(0 if self.hedging is None else self.hedging.copies)
            + (0 if seen is None else seen.hedged),
            cached=self.cached + (0 if seen is None else seen.cached),
            cooling_until=cooling_until,
            taken_for_dead=self.breaker is not None and self.breaker.is_open,
        )
