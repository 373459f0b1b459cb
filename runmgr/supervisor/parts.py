"""Requests to a model that is made of others, a fallback: each part is asked through doors of its own.

So what is learned of a provider (its rates, how many requests it serves at once, whether it is dead) is learned of it and not of
the whole, and shared with runs that ask the same model without a fallback. A part whose quota rests or that is taken for dead is
passed over at once, unless it is the last one; a dead one gets its probes all the same. What a request used is settled at the
part that answered. The whole is asked again where all parts failed, by the supervisor's policy for resends.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import trio

from runmgr.exceptions import ModelHTTPError
from runmgr.models.parts import asker

from . import doors
from .rates import Resting, elsewhere

if TYPE_CHECKING:
    from .actor import Actor
    from .model_door import ModelDoor

__all__ = ("request", "request_stream")


async def request(actor: Actor, door: ModelDoor, messages: list[Any], settings: Any, params: Any) -> Any:
    """Ask the model, its parts through their doors; again where all of them failed in a way that may pass."""
    attempt = 1
    door.retries.sent()
    while True:
        try:
            with _asked_by(actor):
                return await door.model.request_once(messages, settings, params)
        except Exception as exc:
            wait = _delay(actor, door, exc, attempt)
            if wait is None:
                raise
        attempt += 1
        await doors.back_off(actor, wait)


@asynccontextmanager
async def request_stream(
    actor: Actor, door: ModelDoor, messages: list[Any], settings: Any, params: Any, run_context: Any
) -> AsyncGenerator[Any, None]:
    """The streaming form: asked again only until a stream is open."""
    attempt = 1
    door.retries.sent()
    while True:
        try:
            opened = door.model.request_stream_once(messages, settings, params, run_context)
            with _asked_by(actor):
                stream = await opened.__aenter__()
        except Exception as exc:
            wait = _delay(actor, door, exc, attempt)
            if wait is None:
                raise
        else:
            break
        attempt += 1
        await doors.back_off(actor, wait)
    async with _entered(opened, stream):
        yield stream


@asynccontextmanager
async def _entered(manager: AbstractAsyncContextManager[Any], value: Any) -> AsyncGenerator[Any, None]:
    try:
        yield value
    except BaseException as exc:
        if not await manager.__aexit__(type(exc), exc, exc.__traceback__):
            raise
    else:
        await manager.__aexit__(None, None, None)


def _delay(actor: Actor, door: ModelDoor, exc: Exception, attempt: int) -> float | None:
    wait = actor._sup.gates.retry_delay(door, exc, attempt)
    if wait is None and attempt > 1:
        exc.add_note(f"after {attempt} tries")
    return wait


@contextmanager
def _asked_by(actor: Actor) -> Generator[None]:
    token = asker.set(_Asker(actor))
    try:
        yield
    finally:
        asker.reset(token)


class _Asker:
    """Asks parts for one run."""

    __slots__ = ("_actor",)

    def __init__(self, actor: Actor) -> None:
        self._actor = actor

    async def request(
        self, model: Any, messages: list[Any], settings: Any, params: Any, *, last: bool
    ) -> Any:
        with _may_ask_elsewhere(self._actor, model, not last):
            return await doors.request(self._actor, model, messages, settings, params, fresh=True, once=True)

    @asynccontextmanager
    async def request_stream(
        self, model: Any, messages: list[Any], settings: Any, params: Any, run_context: Any, *, last: bool
    ) -> AsyncGenerator[Any, None]:
        asked = doors.request_stream(self._actor, model, messages, settings, params, run_context, once=True)
        with _may_ask_elsewhere(self._actor, model, not last):
            stream = await asked.__aenter__()
        async with _entered(asked, stream):
            yield stream


@contextmanager
def _may_ask_elsewhere(actor: Actor, model: Any, can: bool) -> Generator[None]:
    """Where another can be asked, nobody waits for a model that is taken for dead or whose quota rests: that fails at once."""
    token = elsewhere.set(can or elsewhere.get())
    try:
        door = actor._sup.gates.doors.get(id(model))
        rate = None if door is None else door.rate
        if elsewhere.get() and rate is not None and rate.cool_until > trio.current_time():
            raise Resting
        yield
    except Resting:
        raise _resting(actor._sup.gates.doors[id(model)]) from None
    finally:
        elsewhere.reset(token)


def _resting(door: ModelDoor) -> ModelHTTPError:
    assert door.rate is not None
    rest = door.rate.cool_until - trio.current_time()
    return ModelHTTPError(
        429, door.name, {"error": {"message": f"not sent: its quota rests for {rest:.1f} s more"}}
    )
