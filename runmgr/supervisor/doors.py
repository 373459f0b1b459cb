"""The doors of a model request: rate, then budget, then connection; and its resends.

Whatever a request holds is given back before it waits: no permit, reservation or connection is held during a backoff.
The request is sent with ``model.request_once``; whether a failure is sent again is decided by the pure functions of
`runmgr.models.retry`. What a request used is settled in the ledger before anybody sees its response.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import trio

from runmgr.records.events import RequestFailed, RequestSent, RequestSettled

from .ledger import Tally

if TYPE_CHECKING:
    from .actor import Actor
    from .runtime import Runtime

__all__ = ("ModelDoor", "request", "request_stream")


class ModelDoor:
    """What all requests to one model share."""

    __slots__ = ("model", "name", "system", "tally")

    def __init__(self, model: Any, tally: Tally) -> None:
        self.model = model  # held, so that its id stays its own
        self.name: str = model.model_name
        self.system: str | None = model.system
        self.tally = tally


def settle(actor: Actor, door: ModelDoor, response: Any) -> Decimal | None:
    """Count a paid response: the run's, the group's, the model's and the total's tally. Gives its cost."""
    sup = actor._sup
    usage = response.usage
    cost = sup.prices.price(response.provider_name or door.system, response.model_name or door.name, usage)
    tally = actor._tally
    if tally is None:
        tally = actor._tally = Tally()
    tally.add(usage, cost)
    ledger = sup.ledger
    ledger.group(actor.group).add(usage, cost)
    door.tally.add(usage, cost)
    ledger.total.add(usage, cost)
    actor._model = door.name
    return cost


async def request(self: Actor, model: Any, messages: list[Any], settings: Any, params: Any) -> Any:
    """Send one model request through the doors and give back its response; see `RunHost.request`."""
    sup = self._sup
    door = sup.doors.get(id(model)) or sup.open_door(model)
    attempt = 1
    while True:
        events = sup.events
        started = 0.0
        if events.listening:
            started = trio.current_time()
            events.publish(
                RequestSent(
                    run_id=self.run_id, group=self.group, model=door.name, attempt=attempt, at=sup.now()
                )
            )
        try:
            response = await model.request_once(messages, settings, params)
        except Exception as exc:
            wait = sup.retry_delay(exc, attempt)
            if events.listening:
                _failed(self, door, attempt, exc, wait)
            if wait is None:
                raise
        else:
            cost = settle(self, door, response)
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
    sup: Runtime = self._sup
    door = sup.doors.get(id(model)) or sup.open_door(model)
    attempt = 1
    while True:
        opened = False
        wait: float | None = None
        try:
            async with model.request_stream_once(messages, settings, params, run_context) as stream:
                opened = True
                try:
                    yield stream
                finally:
                    settle(self, door, stream.get())
        except Exception as exc:
            wait = None if opened else sup.retry_delay(exc, attempt)
            if wait is None:
                raise
        if opened:
            return
        assert wait is not None
        attempt += 1
        await _back_off(self, wait)


async def _back_off(actor: Actor, seconds: float) -> None:
    sup = actor._sup
    sup.begin_wait(actor, "backoff")
    try:
        await trio.sleep(seconds)
    finally:
        sup.end_wait(actor)


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
