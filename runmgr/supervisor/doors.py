"""The doors of a model request: rate, then budget, then connection; and its resends.

Whatever a request holds is given back before it waits: no permit and no connection is held during a backoff, while it waits for a budget
or for a rate. The request is sent with ``model.request_once``; whether a failure is sent again is decided by the pure
functions of `runmgr.models.retry` and `RetryBudget`. What a request used is settled in the ledger before anybody sees its
response.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from runmgr.exceptions import BudgetExhausted, ModelConnectionError, ModelHTTPError, ModelTimeoutError
from runmgr.models.rate_headers import rate_headers
from runmgr.models.retry import retry_after
from runmgr.records.events import RequestFailed, RequestSent, RequestSettled

from . import parts
from .amounts import GUARDS, INPUT, OPEN, OUTPUT, REQUEST, Amount, counted, dollars, raised, with_cost_of
from .bounds import COUNT_BITS, OUTPUT_TOKENS, Sizes, most_output, put_right
from .budget import Meter
from .hedge import send_hedged
from .model_door import Entry, ModelDoor
from .pricing import UNKNOWN
from .rates import Booking, Place, elsewhere
from .tally import settled

if TYPE_CHECKING:
    from .actor import Actor
    from .breaker import BreakerGate

__all__ = ("ModelDoor", "back_off", "request", "request_stream")

_OVERLOADED = frozenset({408, 503, 504, 529})
"""Statuses that say "too much at once", or "too slow": 529 is Anthropic's."""
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
    events, journal = sup.events, sup.journal
    halves, rate = door.halves, door.rate
    time = sup._time  # not called as a method would be, which is slow for attributes
    attempt = 1
    door.retries.sent()
    breaker = door.breaker
    while True:
        probe = False
        if breaker is not None and breaker.breaker.is_open:
            attempt = await _wait_at_breaker(self, door, breaker, attempt)
            probe = breaker.is_open
        entry: Entry | None = None
        started = time()
        if rate is not None or gates.purse is not None or gates.group_rates:
            entry = _prepare(self, door, messages, settings, params, probe=probe)
            through = _enter_nowait(door, entry, started)
            if not through or (journal is not None and entry.need and not journal.claimed()):
                asked = (messages, settings, params)
                await _enter(self, door, entry, asked, probe=probe, through=through)
                if breaker is not None and breaker.is_open and not probe:  # since it stood there
                    _turn_back(self, door, entry)
                    continue
                started = time()
        if events.listening:
            _sent(self, door, attempt, started)
        door.sent += 1
        door.in_flight = count = door.in_flight + 1
        if count > door.room:
            door.make_room(2 * count)
        try:
            if halves is not None:
                response = halves[1](messages, await halves[0](messages, settings, params))
            elif door.hedging is None:
                response = await model.request_once(messages, settings, params)
            else:
                response = await _hedged(self, door, entry, model, messages, settings, params)
        except BaseException as exc:
            door.in_flight -= 1
            _leave_failed(self, door, entry, exc, started, probe=probe)
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
            used = _settle(self, door, response, entry, started)
            self._ours = False
            if events.listening:
                _settled(self, door, response, used, started)
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
    gates, journal = sup.gates, sup.journal
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
        started = sup._time()
        if door.rate is not None or gates.purse is not None or gates.group_rates:
            entry = _prepare(self, door, messages, settings, params, probe=probe)
            through = _enter_nowait(door, entry, started)
            if not through or (journal is not None and entry.need and not journal.claimed()):
                asked = (messages, settings, params)
                await _enter(self, door, entry, asked, probe=probe, through=through)
                if door.breaker is not None and door.breaker.is_open and not probe:
                    _turn_back(self, door, entry)
                    continue
                started = sup._time()
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
                _leave_failed(self, door, entry, exc, started, probe=probe)
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
                used = _settle(self, door, response, entry, started, whole=whole)
                if sup.events.listening:
                    _settled(self, door, response, used, started)
        if wait is None:
            return
        attempt += 1
        await back_off(self, wait)


async def _hedged(
    self: Actor, door: ModelDoor, entry: Entry | None, model: Any, messages: Any, settings: Any, params: Any
) -> Any:
    async def again() -> Entry | None:
        copy, now = Entry(), trio.current_time()
        if entry is not None:
            if entry.group_rate is not None:
                if entry.group_booking is not None:
                    copy.group_booking = entry.group_booking.again()
                copy.group_rate = entry.group_rate
            if entry.counted:
                copy.counted = True
                copy.bound_inputs, copy.bound_outputs = entry.bound_inputs, entry.bound_outputs
        if not _pass_rates_nowait(door, copy, now):
            return None
        purse = self._sup.gates.purse
        if purse is not None and entry is not None and entry.need:
            try:
                fits = purse.reserve_nowait(entry.meters, entry.need)
            except BudgetExhausted:
                fits = False
            if not fits:
                door.leave(copy)
                return None
            copy.meters, copy.need = entry.meters, entry.need
            journal = self._sup.journal
            if journal is not None and not journal.claimed():
                try:
                    await journal.claim()
                except BaseException:
                    _turn_back(self, door, copy)
                    raise
        return copy

    return await send_hedged(self, door, lambda: model.request_once(messages, settings, params), again)


# -------------------------------------------------------------------- entering


def _prepare(
    actor: Actor, door: ModelDoor, messages: list[Any], settings: Any, params: Any, *, probe: bool
) -> Entry:
    """What a request needs at each door. Nothing is held yet.

    Raises:
        UserError: there is a budget of cost, and the model's price is unknown.
    """
    gates, rate = actor._sup.gates, door.rate
    purse = gates.purse
    entry = Entry()
    needs = 0
    if purse is not None:
        tally: Any = actor._tally
        if tally is None or tally.meter is None:
            tally = gates.tally(actor)
        entry.meters = meters = purse.of(actor.group, tally.meter)
        for meter in meters:
            needs |= meter.needs
    counted = entry.counted = rate is not None and rate.counts_tokens
    if gates.group_rates:
        own = entry.group_rate = gates.group_rates.get(actor.group)
        counted = counted or (own is not None and own.counts_tokens)
    if not (needs or counted):
        if purse is not None:
            entry.need = REQUEST
        return entry
    tally = actor._tally or gates.tally(actor)
    sizes = tally.sizes
    if sizes is None or sizes.count is not door.tokenizer:
        sizes = tally.sizes = Sizes(door.tokenizer)
    entry.bound_inputs = inputs = sizes.of(messages) + (0 if params is None else sizes.of_tools(params))
    most = None if settings is None else settings.get("max_tokens")
    if most is not None and (type(most) is not int or most >> COUNT_BITS):
        most = most_output(most)
    entry.bound_outputs = outputs = OUTPUT_TOKENS if most is None else most
    if needs:
        need = REQUEST + inputs * INPUT + outputs * OUTPUT
        if needs & Meter.COST:
            try:
                need = gates.need(door, entry.meters, inputs, outputs)
            except BaseException:
                if probe and door.breaker is not None:
                    door.breaker.not_sent()
                raise
        entry.need = need if most is not None else need + OPEN
    elif purse is not None:
        entry.need = REQUEST
    if entry.group_rate is not None and entry.group_rate.counts_tokens:
        entry.group_booking = Booking(inputs, outputs)
    return entry


def _enter_nowait(door: ModelDoor, entry: Entry, now: float) -> bool:
    """Pass all doors at once where nothing has to be waited for and nobody waits; else hold nothing. Decides as `_pass` does."""
    need = entry.need
    if need:
        for meter in entry.meters:
            if (meter.room - need) & GUARDS != GUARDS or meter.line:  # as `Purse.reserve_nowait`
                return False
    if entry.group_rate is not None:
        if not _pass_rates_nowait(door, entry, now):
            return False
    elif (rate := door.rate) is not None and not rate.pass_nowait(now, entry if entry.counted else None):
        return False
    if need:
        for meter in entry.meters:
            meter.room -= need
    return True


def _pass_rates_nowait(door: ModelDoor, entry: Entry, now: float) -> bool:
    """Pass the model's rate and the group's own, or neither."""
    own, rate = entry.group_rate, door.rate
    if own is not None and not own.pass_nowait(now, entry.group_booking):
        return False
    if rate is None or rate.pass_nowait(now, entry.booking):
        return True
    entry.leave_group()
    return False


async def _enter(
    actor: Actor, door: ModelDoor, entry: Entry, asked: tuple[Any, Any, Any], *, probe: bool, through: bool
) -> None:
    """Pass rate and budgets, unless it is ``through`` them. Cancelled or refused: nothing is held.

    With a journal, what may be spent is in it before it is: so a budget holds over a ``kill -9``.
    """
    sup = actor._sup
    try:
        if not through:
            await _pass(actor, door, entry, asked)
        if not entry.need or sup.journal is None or sup.journal.claimed():
            return
        try:
            await sup.journal.claim()
        except BaseException:
            _turn_back(actor, door, entry)
            raise
    except BaseException:
        if probe and door.breaker is not None:
            door.breaker.not_sent()
        raise


def _turn_back(actor: Actor, door: ModelDoor, entry: Entry) -> None:
    """Give back all that a request holds that is not sent."""
    if entry.need:
        purse = actor._sup.gates.purse
        assert purse is not None
        purse.settle(entry.meters, entry.need, 0)
    door.leave(entry)


async def _pass(actor: Actor, door: ModelDoor, entry: Entry, asked: tuple[Any, Any, Any]) -> None:
    gates = actor._sup.gates
    purse = gates.purse
    if not _pass_rates_nowait(door, entry, trio.current_time()):
        await _pass_rates(actor, door, entry)
    if not entry.need:
        return
    assert purse is not None
    try:
        if purse.reserve_nowait(entry.meters, entry.need):
            return
    except BaseException as error:
        door.leave(entry)
        if not isinstance(error, BudgetExhausted) or entry.need <= REQUEST or not door.counts:
            raise
        # The bound is bytes; where these do not fit, the provider's own count may.
        await _count(actor, door, entry, asked, error)
    else:
        door.leave(entry)  # permit and turn go back before it waits
    actor._sup.begin_wait(actor, "budget")
    try:
        if not purse.reserve_nowait(entry.meters, entry.need):
            await purse.reserve(entry.meters, entry.need)
    finally:
        actor._sup.end_wait(actor)
    if not _pass_rates_nowait(door, entry, trio.current_time()):
        try:
            await _pass_rates(actor, door, entry)
        except BaseException:
            purse.settle(entry.meters, entry.need, 0)
            raise


async def _pass_rates(actor: Actor, door: ModelDoor, entry: Entry) -> None:
    """Wait for the model's rate and for the group's own, and pass both at one moment. Cancelled: neither is held."""
    sup, own, rate = actor._sup, entry.group_rate, door.rate
    sup.begin_wait(actor, "rate")
    try:
        if rate is not None:
            await rate.pass_(Place(entry.booking, actor.group, own, entry.group_booking))
        elif own is not None:
            await own.pass_(Place(entry.group_booking, actor.group))
    finally:
        sup.end_wait(actor)


async def _count(
    actor: Actor, door: ModelDoor, entry: Entry, asked: tuple[Any, Any, Any], error: BudgetExhausted
) -> None:
    """Let a request need what it does by its provider's count of its input."""
    try:
        usage = await door.model.count_tokens(*asked)
    except Exception:  # noqa: BLE001  without a count, the bound stands
        raise error from None
    gates = actor._sup.gates
    assert gates.purse is not None
    entry.meters = gates.purse.of(actor.group, gates.tally(actor).meter)
    inputs = min(entry.bound_inputs, int(max(usage.input_tokens, 0) * _COUNT_MARGIN) + 1)
    entry.need = gates.need(door, entry.meters, inputs, entry.bound_outputs) + (entry.need & OPEN)


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
) -> tuple[int, bool]:
    """Count a paid response in the run's, the account's and the model's tally. Gives what it used, and whether its cost is known.

    Args:
        actor: whose it is.
        door: whom it asked.
        response: what came.
        entry: what it held.
        started: when it was sent.
        whole: whether all of it came. Of a stream that broke off, or was left, providers charge more than they had told by then: to
            budgets its bound stays spent, and at rates what was booked stays so.
    """
    sup = actor._sup
    gates = sup.gates
    usage = response.usage
    price = door.price
    if price is None or (response.provider_name, response.model_name) != door.priced:
        price = door.price_of(gates.prices, response.provider_name, response.model_name)
    try:
        odd = (
            (usage.input_tokens | usage.output_tokens) >> COUNT_BITS
            or usage.cache_read_tokens
            or usage.cache_write_tokens
        )
    except TypeError:  # a model of the user's own that tells no whole numbers
        odd = True
    if odd:
        usage, told = put_right(usage)
        response.usage = usage
        if not told:
            price, whole = UNKNOWN, False
    used, known = price.used(usage)
    tally: Any = actor._tally or gates.tally(actor)
    settled(tally, tally.account, door.tally, usage, used, priced=known)
    if gates.behalf is not None:
        gates.behalf.settled(actor, door, usage, used, priced=known)
    actor._model = door.name
    rate = door.rate
    if rate is not None:
        booking = entry if whole and entry is not None and entry.counted else None
        rate.answered(sup._time(), started, booking, usage.input_tokens, usage.output_tokens)
    purse = gates.purse
    if purse is not None:
        spent = used
        if entry is None or not entry.need:  # the budget is younger than the request
            purse.settle(purse.of(actor.group, tally.meter), 0, spent)
        else:
            need = entry.need
            if not known:
                spent = with_cost_of(used, need)
                if spent != used:
                    gates.lost.add(Amount.of(spent - used))
            if need & OPEN:
                spent += OPEN
                purse.open_ended(entry.meters, usage.output_tokens)
            if not whole:
                spent, more = raised(spent, need)
                gates.lost.add(Amount.of(more))
            purse.settle(entry.meters, need, spent)
            if purse.late:
                purse.settle_late(entry.meters, actor.group, tally.meter, spent)
    if entry is not None and entry.group_rate is not None:
        if whole and entry.group_booking is not None:
            booking, now = entry.group_booking, sup._time()
            entry.group_rate.settle(now, booking, usage.input_tokens, usage.output_tokens)
        entry.group_rate.leave()
    return used, known


def _leave_failed(
    actor: Actor,
    door: ModelDoor,
    entry: Entry | None,
    error: BaseException,
    started: float,
    *,
    probe: bool,
) -> None:
    """Give back what a request held that got no answer, and learn from how it failed."""
    door.failed += 1
    if door.breaker is not None:
        door.breaker.ended(error, trio.current_time(), probe=probe)
    rate = door.rate
    if isinstance(error, ModelHTTPError):
        status = error.status_code
        if status == 429:
            door.refused += 1
            if rate is not None:
                quotas = rate_headers(error.headers.items())
                rate.refused(trio.current_time(), started, told=retry_after(error), quotas=quotas)
        elif status in _OVERLOADED and rate is not None:
            rate.pushed_back(trio.current_time(), started)
    elif isinstance(error, ModelTimeoutError) and rate is not None:
        rate.pushed_back(trio.current_time(), started)
    if entry is not None:
        door.give_up(actor, entry, charged=door.charges(error))


# -------------------------------------------------------------------- telling


def _sent(actor: Actor, door: ModelDoor, attempt: int, started: float) -> None:
    sup = actor._sup
    tell = sup.events.tell
    tell(RequestSent(actor.run_id, actor.group, door.name, attempt, sup._wall_offset + started, door.system))


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


def _settled(actor: Actor, door: ModelDoor, response: Any, used: tuple[int, bool], started: float) -> None:
    sup = actor._sup
    tell, ticks = sup.events.tell, sup._ticks
    now = sup._ahead + ticks()
    packed, known = used
    tell(
        RequestSettled(
            actor.run_id,
            actor.group,
            door.name,
            response.usage,
            str(dollars(counted(packed)[5])) if known else None,
            now - started,
            sup._wall_offset + now,
            door.system,
        )
    )
