"""The doors of a model request: rate, then budget, then connection; and its resends.

Whatever a request holds is given back before it waits: no permit and no connection is held during a backoff or while it waits
for the budget. The request is sent with ``model.request_once``; whether a failure is sent again is decided by the pure
functions of `runmgr.models.retry`. What a request used is settled in the ledger before anybody sees its response.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import trio

from runmgr.exceptions import ModelHTTPError
from runmgr.records.events import RequestFailed, RequestSent, RequestSettled

from .bounds import bound
from .budget import Amount
from .ledger import Tally

if TYPE_CHECKING:
    from .actor import Actor
    from .rates import RateDoor
    from .runtime import Runtime

__all__ = ("ModelDoor", "request", "request_stream")


class ModelDoor:
    """What all requests to one model share."""

    __slots__ = ("in_flight", "model", "name", "rate", "system", "tally")

    def __init__(self, model: Any, tally: Tally, rate: RateDoor | None) -> None:
        self.model = model  # held, so that its id stays its own
        self.name: str = model.model_name
        self.system: str | None = model.system
        self.tally = tally
        self.rate = rate
        self.in_flight = 0
        """Requests that are sent and not answered."""


async def request(self: Actor, model: Any, messages: list[Any], settings: Any, params: Any) -> Any:
    """Send one model request through the doors and give back its response; see `RunHost.request`."""
    sup = self._sup
    door = sup.gates.doors.get(id(model)) or await sup.gates.open_door(model)
    events = sup.events
    attempt = 1
    while True:
        reserved: Amount | None = None
        if door.rate is not None or sup.gates.purse is not None:
            reserved = await _enter(self, door, messages, settings, params)
        started = 0.0
        if events.listening:
            started = trio.current_time()
            _sent(self, door, attempt)
        door.in_flight += 1
        try:
            response = await model.request_once(messages, settings, params)
        except BaseException as exc:
            door.in_flight -= 1
            _leave_failed(sup, door, reserved, exc)
            if not isinstance(exc, Exception):
                raise
            wait = sup.gates.retry_delay(exc, attempt)
            if events.listening:
                _failed(self, door, attempt, exc, wait)
            if wait is None:
                if attempt > 1:
                    exc.add_note(f"after {attempt} tries")
                raise
        else:
            door.in_flight -= 1
            self._ours = True  # an error in here is a bug of ours, though it goes up through the agent
            cost = _settle(self, door, response, reserved)
            self._ours = False
            if events.listening:
                _settled(self, door, response, cost, started)
            return response
        attempt += 1
        await _back_off(self, wait)


@asynccontextmanager
async def request_stream(
    self: Actor, model: Any, messages: list[Any], settings: Any, params: Any, run_context: Any
) -> AsyncGenerator[Any, None]:
    """The streaming form: resends only until the stream is open; settles when the block is left."""
    sup = self._sup
    door = sup.gates.doors.get(id(model)) or await sup.gates.open_door(model)
    attempt = 1
    while True:
        reserved: Amount | None = None
        if door.rate is not None or sup.gates.purse is not None:
            reserved = await _enter(self, door, messages, settings, params)
        if sup.events.listening:
            _sent(self, door, attempt)
        started = trio.current_time()
        door.in_flight += 1
        stream: Any = None
        wait: float | None = None
        try:
            async with model.request_stream_once(messages, settings, params, run_context) as stream:
                yield stream
        except BaseException as exc:
            if stream is None:
                _leave_failed(sup, door, reserved, exc)
                wait = sup.gates.retry_delay(exc, attempt) if isinstance(exc, Exception) else None
                if isinstance(exc, Exception) and sup.events.listening:
                    _failed(self, door, attempt, exc, wait)
            if wait is None:
                raise
        finally:
            door.in_flight -= 1
            if stream is not None:
                response = stream.get()
                cost = _settle(self, door, response, reserved)
                if sup.events.listening:
                    _settled(self, door, response, cost, started)
        if wait is None:
            return
        attempt += 1
        await _back_off(self, wait)


# -------------------------------------------------------------------- entering


async def _enter(
    actor: Actor, door: ModelDoor, messages: list[Any], settings: Any, params: Any
) -> Amount | None:
    """Pass rate and budget; gives what is reserved. Cancelled or refused: nothing is held."""
    sup = actor._sup
    rate, purse = door.rate, sup.gates.purse
    if rate is not None and not rate.pass_nowait():
        await _wait_for_rate(actor, rate)
    if purse is None:
        return None
    try:
        need = sup.gates.need(door, lambda: bound(messages, settings, params))
        if purse.reserve_nowait(need):
            return need
    except BaseException:
        if rate is not None:
            rate.leave()
            rate.give_back(trio.current_time())
        raise
    if rate is not None:  # permit and turn go back before it waits
        rate.leave()
        rate.give_back(trio.current_time())
    sup.begin_wait(actor, "budget")
    try:
        await purse.reserve(need)
    finally:
        sup.end_wait(actor)
    if rate is not None and not rate.pass_nowait():
        try:
            await _wait_for_rate(actor, rate)
        except BaseException:
            purse.settle(need, Amount())
            raise
    return need


async def _wait_for_rate(actor: Actor, rate: RateDoor) -> None:
    sup = actor._sup
    sup.begin_wait(actor, "rate")
    try:
        await rate.pass_(sup.gates.timers)
    finally:
        sup.end_wait(actor)


async def _back_off(actor: Actor, seconds: float) -> None:
    sup = actor._sup
    sup.begin_wait(actor, "backoff")
    try:
        await sup.gates.timers.sleep(seconds)
    finally:
        sup.end_wait(actor)


# -------------------------------------------------------------------- leaving


def _settle(actor: Actor, door: ModelDoor, response: Any, reserved: Amount | None) -> Decimal | None:
    """Count a paid response: the run's, the group's, the model's and the total's tally. Gives its cost."""
    sup = actor._sup
    usage = response.usage
    cost = sup.gates.prices.price(
        response.provider_name or door.system, response.model_name or door.name, usage
    )
    tally = actor._tally
    if tally is None:
        tally = actor._tally = Tally()
    tally.add(usage, cost)
    ledger = sup.ledger
    ledger.group(actor.group).add(usage, cost)
    door.tally.add(usage, cost)
    ledger.total.add(usage, cost)
    actor._model = door.name
    if door.rate is not None:
        door.rate.leave()
        door.rate.settle(trio.current_time(), usage.input_tokens + usage.output_tokens)
    if reserved is not None:
        assert sup.gates.purse is not None
        used = Amount(1, usage.input_tokens, usage.output_tokens, reserved.cost if cost is None else cost)
        sup.gates.purse.settle(reserved, used)
    return cost


def _leave_failed(sup: Runtime, door: ModelDoor, reserved: Amount | None, error: BaseException) -> None:
    """Give back what a request held that got no answer."""
    if door.rate is not None:
        door.rate.leave()
    if reserved is None:
        return
    # An error status is not charged for. Of everything else nobody can say: the answer may have been made and lost.
    used = Amount(1) if isinstance(error, ModelHTTPError) else reserved
    sup.gates.lost.add(used)
    assert sup.gates.purse is not None
    sup.gates.purse.settle(reserved, used)


# -------------------------------------------------------------------- telling


def _sent(actor: Actor, door: ModelDoor, attempt: int) -> None:
    actor._sup.events.publish(
        RequestSent(
            run_id=actor.run_id, group=actor.group, model=door.name, attempt=attempt, at=actor._sup.now()
        )
    )


def _failed(actor: Actor, door: ModelDoor, attempt: int, exc: Exception, wait: float | None) -> None:
    actor._sup.events.publish(
        RequestFailed(
            run_id=actor.run_id,
            group=actor.group,
            model=door.name,
            attempt=attempt,
            error=f"{type(exc).__name__}: {exc}",
            retry_in=wait,
            at=actor._sup.now(),
        )
    )


def _settled(actor: Actor, door: ModelDoor, response: Any, cost: Decimal | None, started: float) -> None:
    actor._sup.events.publish(
        RequestSettled(
            run_id=actor.run_id,
            group=actor.group,
            model=door.name,
            usage=response.usage,
            cost=None if cost is None else str(cost),
            seconds=trio.current_time() - started,
            at=actor._sup.now(),
        )
    )
