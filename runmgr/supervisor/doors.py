"""The doors of a model request: rate, then budget, then connection; and its resends.

Whatever a request holds is given back before it waits: no permit and no connection is held during a backoff or while it waits
for a budget. One exception: a group's own permit, while its request stands in its model's line (see `_pass_rates`). The request is sent with ``model.request_once``; whether a failure is sent again is decided by the pure
functions of `runmgr.models.retry` and `RetryBudget`. What a request used is settled in the ledger before anybody sees its
response.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import trio

from runmgr.exceptions import BudgetExhausted, ModelConnectionError, ModelHTTPError, ModelTimeoutError
from runmgr.models.rate_headers import rate_headers
from runmgr.models.retry import retry_after
from runmgr.records.events import RequestFailed, RequestSent, RequestSettled

from . import parts
from .bounds import Bound, Sizes, bound
from .budget import Amount
from .hedge import send_hedged
from .model_door import Entry, ModelDoor
from .rates import Booking, RateDoor, elsewhere

if TYPE_CHECKING:
    from .actor import Actor
    from .breaker import BreakerGate

__all__ = ("ModelDoor", "back_off", "request", "request_stream")

_COUNT_MARGIN = 1.05
"""A provider calls its own count of tokens an estimate; it is taken for a bound with this much on top."""


async def request(
    self: Actor,
    model: Any,
    messages: list[Any],
    settings: Any,
    params: Any,
    *,
    fresh: bool = False,
    once: bool = False,
) -> Any:
    """Send one model request through the doors and give back its response; see `RunHost.request`.

    Args:
        self: the run.
        model: whom to ask.
        messages: the conversation.
        settings: on top of the model's own.
        params: tools and output.
        fresh: ask the provider, whatever the cache has.
        once: do not send it again: see `runmgr.supervisor.parts`.
    """
    sup = self._sup
    gates = sup.gates
    door = gates.doors.get(id(model)) or await gates.open_door(model)
    if gates.cache is not None and not fresh:
        return await gates.cache.ask(self, door, messages, settings, params)
    if door.has_parts:
        return await parts.request(self, door, messages, settings, params)
    events = sup.events
    rate = door.rate
    attempt = 1
    door.retries.sent()
    breaker = door.breaker
    while True:
        probe = False
        if breaker is not None and breaker.is_open:
            attempt = await _wait_at_breaker(self, door, breaker, attempt)
            probe = breaker.is_open
        entry: Entry | None = None
        if rate is not None or gates.purse is not None or gates.group_rates:
            entry = await _enter(self, door, messages, settings, params, probe=probe)
            if breaker is not None and breaker.is_open and not probe:  # since it stood there
                _turn_back(self, door, entry)
                continue
        started = 0.0
        if rate is not None or events.listening:
            started = trio.current_time()
            if events.listening:
                _sent(self, door, attempt, started)
        door.count_in()
        try:
            if door.hedging is None:
                response = await model.request_once(messages, settings, params)
            else:
                response = await _hedged(self, door, entry, model, messages, settings, params)
        except BaseException as exc:
            door.in_flight -= 1
            _leave_failed(self, door, entry, exc, started)
            if not isinstance(exc, Exception):
                raise
            wait = None if once else gates.retry_delay(door, exc, attempt)
            if events.listening:
                _failed(self, door, attempt, exc, wait, started)
            if wait is None:
                if attempt > 1:
                    exc.add_note(f"after {attempt} tries")
                raise
        else:
            door.in_flight -= 1
            if breaker is not None and breaker.breaker.troubled:
                breaker.answered()
            self._ours = True  # an error in here is a bug of ours, though it goes up through the agent
            cost = _settle(self, door, response, entry, started)
            self._ours = False
            if events.listening:
                _settled(self, door, response, cost, started)
            return response
        attempt += 1
        await back_off(self, wait)


@asynccontextmanager
async def request_stream(
    self: Actor,
    model: Any,
    messages: list[Any],
    settings: Any,
    params: Any,
    run_context: Any,
    *,
    once: bool = False,
) -> AsyncGenerator[Any, None]:
    """The streaming form: resends only until the stream is open; settles when the block is left. Not cached, not hedged."""
    sup = self._sup
    gates = sup.gates
    door = gates.doors.get(id(model)) or await gates.open_door(model)
    if door.has_parts:
        async with parts.request_stream(self, door, messages, settings, params, run_context) as stream:
            yield stream
        return
    attempt = 1
    door.retries.sent()
    while True:
        probe = False
        if door.breaker is not None and door.breaker.is_open:
            attempt = await _wait_at_breaker(self, door, door.breaker, attempt)
            probe = door.breaker.is_open
        entry: Entry | None = None
        if door.rate is not None or gates.purse is not None or gates.group_rates:
            entry = await _enter(self, door, messages, settings, params, probe=probe)
            if door.breaker is not None and door.breaker.is_open and not probe:
                _turn_back(self, door, entry)
                continue
        started = trio.current_time()
        if sup.events.listening:
            _sent(self, door, attempt, started)
        door.count_in()
        stream: Any = None
        wait: float | None = None
        try:
            async with model.request_stream_once(messages, settings, params, run_context) as stream:
                if door.breaker is not None and door.breaker.breaker.troubled:
                    door.breaker.answered()
                yield stream
        except BaseException as exc:
            if stream is None:
                _leave_failed(self, door, entry, exc, started)
                if isinstance(exc, Exception) and not once:
                    wait = gates.retry_delay(door, exc, attempt)
                if isinstance(exc, Exception) and sup.events.listening:
                    _failed(self, door, attempt, exc, wait, started)
            if wait is None:
                raise
        finally:
            door.in_flight -= 1
            if stream is not None:
                response = stream.get()
                whole = getattr(stream, "_came_whole", True)
                cost = _settle(self, door, response, entry, started, whole=whole)
                if sup.events.listening:
                    _settled(self, door, response, cost, started)
        if wait is None:
            return
        attempt += 1
        await back_off(self, wait)


async def _hedged(
    self: Actor, door: ModelDoor, entry: Entry | None, model: Any, messages: Any, settings: Any, params: Any
) -> Any:
    def again() -> Entry | None:
        copy = Entry()
        if entry is not None and entry.group_rate is not None:
            if entry.group_booking is not None:
                copy.group_booking = Booking(entry.group_booking.bound)
            if not entry.group_rate.pass_nowait(copy.group_booking):
                return None
            copy.group_rate = entry.group_rate
        if door.rate is not None:
            if entry is not None and entry.booking is not None:
                copy.booking = Booking(entry.booking.bound)
            if not door.rate.pass_nowait(copy.booking):
                copy.leave_group()
                return None
        purse = self._sup.gates.purse
        if purse is not None and entry is not None and entry.reserved is not None:
            try:
                fits = purse.reserve_nowait(entry.meters, entry.reserved)
            except BudgetExhausted:
                fits = False
            if not fits:
                door.leave(copy)
                return None
            copy.meters, copy.reserved = entry.meters, entry.reserved
        return copy

    return await send_hedged(self, door, lambda: model.request_once(messages, settings, params), again)


# -------------------------------------------------------------------- entering


async def _enter(
    actor: Actor, door: ModelDoor, messages: list[Any], settings: Any, params: Any, *, probe: bool
) -> Entry:
    """Pass rate and budgets; gives what is held. Cancelled or refused: nothing is held.

    With a journal, what may be spent is in it before it is: so a budget holds over a ``kill -9``.
    """
    sup = actor._sup
    try:
        entry = await _pass(actor, door, messages, settings, params)
        if entry.reserved is None or sup.journal is None or sup.journal.claimed():
            return entry
        try:
            await sup.journal.claim()
        except BaseException:
            _turn_back(actor, door, entry)
            raise
    except BaseException:
        if probe and door.breaker is not None:
            door.breaker.not_sent()
        raise
    return entry


def _turn_back(actor: Actor, door: ModelDoor, entry: Entry) -> None:
    """Give back all that a request holds that is not sent."""
    if entry.reserved is not None:
        purse = actor._sup.gates.purse
        assert purse is not None
        purse.settle(entry.meters, entry.reserved, Amount())
    door.leave(entry)


async def _pass(actor: Actor, door: ModelDoor, messages: list[Any], settings: Any, params: Any) -> Entry:
    gates = actor._sup.gates
    rate, purse = door.rate, gates.purse
    entry = Entry()
    limit: Bound | None = None
    if purse is not None:
        tally = gates.tally(actor)
        meters = entry.meters = purse.of(actor.group, tally.meter)
        for meter in meters:
            if meter.needs_tokens:
                if tally.sizes is None or tally.sizes.count is not door.tokenizer:
                    tally.sizes = Sizes(door.tokenizer)
                limit = bound(messages, settings, params, tally.sizes)
                break
    own = entry.group_rate = gates.group_rates.get(actor.group) if gates.group_rates else None
    if own is not None and own.counts_tokens:
        entry.group_booking = Booking(limit or bound(messages, settings, params))
    if rate is not None and rate.counts_tokens:
        entry.booking = Booking(limit or bound(messages, settings, params))
    if own is not None or (rate is not None and not rate.pass_nowait(entry.booking)):
        await _pass_rates(actor, rate, entry)
    if purse is None:
        return entry
    try:
        need = gates.need(door, entry.meters, limit)
        if purse.reserve_nowait(entry.meters, need):
            entry.reserved = need
            return entry
    except BaseException as error:
        door.leave(entry)
        if not isinstance(error, BudgetExhausted) or limit is None or not door.counts:
            raise
        # The bound is bytes; where these do not fit, the provider's own count may.
        need = await _counted(actor, door, limit, (messages, settings, params), error)
    else:
        door.leave(entry)  # permit and turn go back before it waits
    actor._sup.begin_wait(actor, "budget")
    try:
        if not purse.reserve_nowait(entry.meters, need):
            await purse.reserve(entry.meters, need)
    finally:
        actor._sup.end_wait(actor)
    entry.reserved = need
    if own is not None or (rate is not None and not rate.pass_nowait(entry.booking)):
        try:
            await _pass_rates(actor, rate, entry)
        except BaseException:
            purse.settle(entry.meters, need, Amount())
            raise
    return entry


async def _pass_rates(actor: Actor, rate: RateDoor | None, entry: Entry) -> None:
    """Pass the group's own rate, then the model's. Cancelled: neither is held.

    In this order: while it waits for the model, a request holds back no one but its own group. That is the one permit that is held while
    something waits, and on purpose. Two lines that are passed one after the other, each given back when the other one has no room, let
    requests go from one to the other and back for as long as both are full, and nobody's turn would be sure. So a group's
    ``max_in_flight`` counts those of its requests that stand in a model's line too.
    """
    own = entry.group_rate
    if own is not None and not own.pass_nowait(entry.group_booking):
        await _wait_for_rate(actor, own, entry.group_booking)
    if rate is not None and not rate.pass_nowait(entry.booking):
        try:
            await _wait_for_rate(actor, rate, entry.booking)
        except BaseException:
            entry.leave_group()
            raise


async def _counted(
    actor: Actor, door: ModelDoor, limit: Bound, asked: tuple[Any, Any, Any], error: BudgetExhausted
) -> Amount:
    """What a request needs by its provider's count of its input."""
    try:
        usage = await door.model.count_tokens(*asked)
    except Exception:  # noqa: BLE001  without a count, the bound stands
        raise error from None
    inputs = min(limit.inputs, int(usage.input_tokens * _COUNT_MARGIN) + 1)
    return actor._sup.gates.need(
        door,
        actor._sup.gates.purse.of(actor.group, actor._sup.gates.tally(actor).meter),
        limit._replace(inputs=inputs),
    )


async def _wait_for_rate(actor: Actor, rate: RateDoor, booking: Booking | None) -> None:
    sup = actor._sup
    sup.begin_wait(actor, "rate")
    try:
        await rate.pass_(booking, actor.group)
    finally:
        sup.end_wait(actor)


async def _wait_at_breaker(actor: Actor, door: ModelDoor, breaker: BreakerGate, attempt: int) -> int:
    sup = actor._sup
    if elsewhere.get() and breaker.rests(trio.current_time()):
        raise ModelConnectionError(
            door.name,
            f"not sent: {door.name} is taken for dead; the last request to it ended with {breaker.last_error}",
        )
    sup.begin_wait(actor, "breaker")
    try:
        return await breaker.pass_(sup.gates.timers, attempt, sup.gates.tries, door.name)
    finally:
        sup.end_wait(actor)


async def back_off(actor: Actor, seconds: float) -> None:
    """Wait before a request is sent again; the run is ``waiting`` meanwhile."""
    sup = actor._sup
    sup.begin_wait(actor, "backoff")
    try:
        await sup.gates.timers.sleep(seconds)
    finally:
        sup.end_wait(actor)


# -------------------------------------------------------------------- leaving


def _settle(
    actor: Actor, door: ModelDoor, response: Any, entry: Entry | None, started: float, *, whole: bool = True
) -> Decimal | None:
    """Count a paid response in the run's, the account's and the model's tally. Gives its cost.

    Args:
        actor: whose it is.
        door: whom it asked.
        response: what came.
        entry: what it held.
        started: when it was sent.
        whole: whether all of it came. Of a stream that broke off, or was left, providers charge more than they had told by then: to
            budgets its bound stays spent.
    """
    gates = actor._sup.gates
    usage = response.usage
    cost = gates.prices.price(response.provider_name or door.system, response.model_name or door.name, usage)
    if door.price_share is not None and cost is not None:
        cost *= door.price_share
    tally: Any = actor._tally
    if tally is None:
        tally = gates.tally(actor)
    tally.add(usage, cost)
    tally.account.add(usage, cost)
    door.tally.add(usage, cost)
    if gates.behalf is not None:
        gates.behalf.settled(actor, door, usage, cost)
    actor._model = door.name
    rate = door.rate
    if rate is not None:
        now = trio.current_time()
        rate.succeeded(now, started)
        if entry is not None and entry.booking is not None:
            rate.settle(now, entry.booking, usage.input_tokens, usage.output_tokens)
        rate.leave()
    if entry is not None and entry.group_rate is not None:
        if entry.group_booking is not None:
            booking, now = entry.group_booking, trio.current_time()
            entry.group_rate.settle(now, booking, usage.input_tokens, usage.output_tokens)
        entry.group_rate.leave()
    purse = gates.purse
    if purse is not None:
        reserved = None if entry is None else entry.reserved
        used = Amount(1, usage.input_tokens, usage.output_tokens)
        if cost is not None:
            used.cost = cost
        elif reserved is not None:
            used.cost = reserved.cost
        if not whole and reserved is not None:
            gates.lost.add(used.raised_to(reserved))
        meters = purse.of(actor.group, tally.meter) if reserved is None else entry.meters  # pyright: ignore[reportOptionalMemberAccess]
        purse.settle(meters, reserved, used)
    return cost


def _leave_failed(
    actor: Actor, door: ModelDoor, entry: Entry | None, error: BaseException, started: float
) -> None:
    """Give back what a request held that got no answer, and learn from how it failed."""
    door.failed += 1
    if door.breaker is not None:
        door.breaker.ended(error, trio.current_time())
    # An error status is not charged for. Of everything else nobody can say: the answer may have been made and lost.
    charged = not (isinstance(error, ModelHTTPError) or door.keeps_answers)
    rate = door.rate
    if isinstance(error, ModelHTTPError):
        status = error.status_code
        if status == 429:
            door.refused += 1
            if rate is not None:
                quotas = rate_headers(error.headers.items())
                rate.refused(trio.current_time(), started, told=retry_after(error), quotas=quotas)
        elif status == 503 and rate is not None:
            rate.pushed_back(trio.current_time(), started)
    elif isinstance(error, ModelTimeoutError) and rate is not None:
        rate.pushed_back(trio.current_time(), started)
    if entry is not None:
        door.give_up(actor, entry, charged=charged)


# -------------------------------------------------------------------- telling


def _sent(actor: Actor, door: ModelDoor, attempt: int, started: float) -> None:
    sup = actor._sup
    sup.events.tell(
        RequestSent(actor.run_id, actor.group, door.name, attempt, sup._wall_offset + started, door.system)
    )


def _failed(
    actor: Actor, door: ModelDoor, attempt: int, exc: Exception, wait: float | None, started: float
) -> None:
    actor._sup.events.tell(
        RequestFailed(
            run_id=actor.run_id,
            group=actor.group,
            model=door.name,
            attempt=attempt,
            error=f"{type(exc).__name__}: {exc}",
            retry_in=wait,
            at=actor._sup.now(),
            provider=door.system,
            status=exc.status_code if isinstance(exc, ModelHTTPError) else None,
            seconds=trio.current_time() - started,
        )
    )


def _settled(actor: Actor, door: ModelDoor, response: Any, cost: Decimal | None, started: float) -> None:
    sup = actor._sup
    now = sup._time()
    sup.events.tell(
        RequestSettled(
            actor.run_id,
            actor.group,
            door.name,
            response.usage,
            None if cost is None else str(cost),
            now - started,
            sup._wall_offset + now,
            door.system,
        )
    )
