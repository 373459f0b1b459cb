"""One request to a model, without an agent: messages in, a response out.

The ``_sync`` forms are for programs that don't run trio; each runs an event loop of its own for as long as it needs it.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self

import trio

from runmgr.concurrency import LoopThread, check_in_trio
from runmgr.exceptions import UserError
from runmgr.messages import ModelMessage, ModelResponse, ModelResponseStreamEvent
from runmgr.models import Model, ModelRequestParameters, StreamedResponse, infer_model
from runmgr.settings import ModelSettings
from runmgr.usage import RequestUsage

if TYPE_CHECKING:
    from runmgr.models.instrumented import InstrumentationSettings

__all__ = (
    "StreamedResponseSync",
    "model_request",
    "model_request_stream",
    "model_request_stream_sync",
    "model_request_sync",
)


async def model_request(
    model: Model | str,
    messages: Sequence[ModelMessage],
    *,
    model_settings: ModelSettings | None = None,
    model_request_parameters: ModelRequestParameters | None = None,
    instrument: InstrumentationSettings | bool | None = None,
) -> ModelResponse:
    """Ask a model, and wait for the whole answer.

    Args:
        model: the model or its string. One made from a string is closed at the end.
        messages: the conversation, ending in a request.
        model_settings: on top of the model's own.
        model_request_parameters: tools and output; by default none, and text.
        instrument: leave spans and metrics behind; by default as ``Agent.instrument_all`` says.

    Raises:
        UserError: the model string is unknown.
        Exception: whatever `Model.request` raises.
    """
    asked = _prepare(model, instrument)
    params = model_request_parameters or ModelRequestParameters()
    return await _request(asked, not isinstance(model, Model), messages, model_settings, params)


async def _request(
    model: Model,
    close: bool,
    messages: Sequence[ModelMessage],
    model_settings: ModelSettings | None,
    params: ModelRequestParameters,
) -> ModelResponse:
    check_in_trio()
    if not close:
        return await model.request(list(messages), model_settings, params)
    async with model:
        return await model.request(list(messages), model_settings, params)


def model_request_sync(
    model: Model | str,
    messages: Sequence[ModelMessage],
    *,
    model_settings: ModelSettings | None = None,
    model_request_parameters: ModelRequestParameters | None = None,
    instrument: InstrumentationSettings | bool | None = None,
) -> ModelResponse:
    """As `model_request`, for programs that don't run trio; blocks.

    Raises:
        UserError: called inside trio.
    """
    _outside_trio("model_request_sync(...)", "await model_request(...)")
    asked = _prepare(model, instrument)
    params = model_request_parameters or ModelRequestParameters()
    # Connections live no longer than the loop that they were opened in.
    return trio.run(_request, asked, True, messages, model_settings, params)


def model_request_stream(
    model: Model | str,
    messages: Sequence[ModelMessage],
    *,
    model_settings: ModelSettings | None = None,
    model_request_parameters: ModelRequestParameters | None = None,
    instrument: InstrumentationSettings | bool | None = None,
) -> AbstractAsyncContextManager[StreamedResponse]:
    """Ask a model, and read the answer while it comes, in an ``async with`` block whose end closes the connection.

    Arguments and errors are those of `model_request`.
    """
    asked = _prepare(model, instrument)
    params = model_request_parameters or ModelRequestParameters()
    stream = asked.request_stream(list(messages), model_settings, params)
    return stream if isinstance(model, Model) else _closing(asked, stream)


@asynccontextmanager
async def _closing(
    model: Model, stream: AbstractAsyncContextManager[StreamedResponse]
) -> AsyncGenerator[StreamedResponse]:
    async with model, stream as response:
        yield response


def model_request_stream_sync(
    model: Model | str,
    messages: Sequence[ModelMessage],
    *,
    model_settings: ModelSettings | None = None,
    model_request_parameters: ModelRequestParameters | None = None,
    instrument: InstrumentationSettings | bool | None = None,
) -> StreamedResponseSync:
    """As `model_request_stream`, for programs that don't run trio: ``with ... as response: for event in response``.

    Nothing is sent before the block is entered.
    """
    asked = _prepare(model, instrument)
    params = model_request_parameters or ModelRequestParameters()
    stream = partial(asked.request_stream, list(messages), model_settings, params)
    return StreamedResponseSync(asked, stream)


def _prepare(model: Model | str, instrument: InstrumentationSettings | bool | None) -> Model:
    asked = infer_model(model)
    if instrument is None:
        # Whoever set the default has imported the agent.
        agent = sys.modules.get("runmgr.agent")
        instrument = getattr(getattr(agent, "Agent", None), "_instrument_default", False)
    if not instrument:
        return asked
    from runmgr.models.instrumented import instrument_model

    return instrument_model(asked, instrument)


def _outside_trio(wrong: str, right: str) -> None:
    if trio.lowlevel.in_trio_run():
        raise UserError(f"{wrong} blocks, and was called inside trio; there it is: {right}")


class StreamedResponseSync:
    """A streamed response for programs that don't run trio; see `model_request_stream_sync`.

    The stream lives in a thread of its own, which reads the next event when it is asked for it. Leaving the block
    closes the stream and ends the thread.
    """

    def __init__(
        self, model: Model, stream: Callable[[], AbstractAsyncContextManager[StreamedResponse]]
    ) -> None:
        self._model = model
        self._open = stream
        self._loop: LoopThread[StreamedResponse] | None = None
        self._events: AsyncIterator[ModelResponseStreamEvent] | None = None

    def __repr__(self) -> str:
        state = "not open" if self._loop is None else "open"
        return f"<{type(self).__name__} of {self._model.model_name}, {state}>"

    def __enter__(self) -> Self:
        """Open the stream; blocks until it is open.

        Raises:
            UserError: called inside trio, or a second time.
            Exception: whatever opening raises.
        """
        _outside_trio("model_request_stream_sync(...)", "async with model_request_stream(...)")
        if self._loop is not None:
            raise UserError("A streamed response can be entered once; call model_request_stream_sync again")
        self._loop = LoopThread(_closing(self._model, self._open()), name="runmgr model stream")
        self._events = aiter(self._loop.value)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._loop is not None
        self._events = None
        self._loop.close(value)

    def __iter__(self) -> Iterator[ModelResponseStreamEvent]:
        """The events; blocks for each. Iterating again goes on where it stopped.

        Raises:
            RuntimeError: not inside its ``with`` block.
            Exception: whatever the stream raises.
        """
        loop = self._entered()
        while (events := self._events) is not None:
            try:
                event = loop.do(partial(anext, events, None))
            except BaseException:
                self._events = None
                raise
            if event is None:
                self._events = None
            else:
                yield event

    def get(self) -> ModelResponse:
        """The response as far as it has come."""
        return self._inside().get()

    @property
    def response(self) -> ModelResponse:
        """The response as far as it has come."""
        return self.get()

    def usage(self) -> RequestUsage:
        """The usage as far as it is known."""
        return self._inside().usage()

    @property
    def model_name(self) -> str:
        """The model that answers."""
        return self._inside().model_name

    @property
    def timestamp(self) -> datetime:
        """When the response began."""
        return self._inside().timestamp

    def _entered(self) -> LoopThread[StreamedResponse]:
        if self._loop is None:
            raise RuntimeError(
                "StreamedResponseSync must be used as a context manager. "
                "Use: `with model_request_stream_sync(...) as stream:`"
            )
        return self._loop

    def _inside(self) -> StreamedResponse:
        return self._entered().value
