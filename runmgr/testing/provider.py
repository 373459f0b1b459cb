"""A provider that fails as the seed says, and keeps a book of what it charged."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

import trio

from runmgr.exceptions import MalformedResponseError, ModelConnectionError, ModelHTTPError, UserError
from runmgr.messages import ModelMessage, ModelResponse, ModelResponseStreamEvent, TextPart, ToolCallPart
from runmgr.models import Model
from runmgr.models.openai import OpenAIChatModel
from runmgr.models.stream import StreamedResponse
from runmgr.models.wrapper import WrapperModel
from runmgr.providers.openai import OpenAIProvider
from runmgr.records.definitions import ModelRequestParameters
from runmgr.settings import ModelSettings
from runmgr.usage import RequestUsage

from .book import Book, Violation
from .faults import Faults
from .network import BASE_URL, TICKET, SimulatedNetwork, Ticket, shown

if TYPE_CHECKING:
    from .life import Life

__all__ = ("NetworkedProvider", "SimulatedProvider")


class SimulatedProvider(WrapperModel):
    """Stands between the supervisor and a model that knows the answers.

    Args:
        answers: an in-process model: what it says is what the provider would have said.
        faults: what goes wrong.
        book: where it is written down.
        rng: draws it.
    """

    def __init__(self, answers: Model | str, faults: Faults, book: Book, rng: random.Random) -> None:
        super().__init__(answers)
        self.faults = faults
        self.book = book
        self.rng = rng
        self.life: Life | None = None
        """The process that asks now."""
        self.in_flight = 0

    def enter(self, life: Life) -> None:
        """Serve this process from now on; called within its ``trio.run``."""
        self.life = life

    async def request_once(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """One try: an answer, or what the seed says."""
        life = self._alive()
        self.in_flight += 1
        told = False
        response: ModelResponse | None = None
        try:
            response = await self._answer(life, messages, model_settings, model_request_parameters)
            told = True
            self.book.answered(*_which(messages), response.usage, whole=True)
            return response
        except trio.Cancelled:
            if (
                not told and self.rng.random() < 0.5
            ):  # it had begun to answer: that is charged for all the same
                await self._charge_in_passing(messages, model_settings, model_request_parameters)
            raise
        finally:
            self.in_flight -= 1

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """As `request_once`: this provider's client does not resend."""
        return await self.request_once(messages, model_settings, model_request_parameters)

    @asynccontextmanager
    async def request_stream_once(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: Any = None,  # noqa: ARG002  (the protocol's)
    ) -> AsyncGenerator[StreamedResponse]:
        """One try: an answer in pieces, which may be cut."""
        life = self._alive()
        self.in_flight += 1
        stream: _Stream | None = None
        try:
            response = await self._answer(life, messages, model_settings, model_request_parameters)
            cut = self.rng.random() < self.faults.cut
            pause = self.rng.random() * self.faults.latency / 10
            _, parameters = self.prepare_request(model_settings, model_request_parameters)
            stream = _Stream(parameters, response, life, pause=pause, cut=cut)
            try:
                yield stream
            finally:
                await stream.aclose()
        finally:
            self.in_flight -= 1
            if stream is not None and not life.dead:
                self.book.answered(*_which(messages), stream.usage(), whole=stream.whole)

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: Any = None,
    ) -> AsyncGenerator[StreamedResponse]:
        """As `request_stream_once`."""
        async with self.request_stream_once(
            messages, model_settings, model_request_parameters, run_context
        ) as stream:
            yield stream

    # ---------------------------------------------------------------- what happens

    def _alive(self) -> Life:
        assert self.life is not None, "this provider is asked outside of its simulation"
        return self.life

    async def _answer(
        self,
        life: Life,
        messages: list[ModelMessage],
        settings: ModelSettings | None,
        parameters: ModelRequestParameters,
    ) -> ModelResponse:
        rng, name = self.rng, self.model_name
        fault = self.faults.draw(rng)
        if fault in {"429", "500", "503"}:
            await self._wait(life, rng.random() * 0.1)
            headers = {"retry-after": "0.5"} if fault != "500" and rng.random() < 0.5 else {}
            raise ModelHTTPError(
                int(fault), name, {"error": {"message": f"simulated {fault}"}}, headers=headers
            )
        if fault == "hang":
            await self._wait(life, self.faults.hang_seconds)
            raise ModelConnectionError(
                name, "the simulated provider stayed silent, then closed the connection"
            )
        await self._wait(life, rng.random() * self.faults.latency)
        if fault == "disconnect":
            raise ModelConnectionError(name, "the simulated provider closed the connection")
        response = await self.wrapped.request_once(messages, settings, parameters)
        if life.dead:
            await trio.sleep_forever()
        if fault is not None:
            self.book.lost(response.usage)
            if fault == "lost":
                raise ModelConnectionError(name, "the simulated connection broke before its answer")
            raise MalformedResponseError(name, "the simulated answer was cut")
        return response

    @staticmethod
    async def _wait(life: Life, seconds: float) -> None:
        await trio.sleep(seconds)
        if life.dead:
            await trio.sleep_forever()  # the process is gone: nobody goes on

    async def _charge_in_passing(
        self,
        messages: list[ModelMessage],
        settings: ModelSettings | None,
        parameters: ModelRequestParameters,
    ) -> None:
        with trio.CancelScope(shield=True):
            response = await self.wrapped.request_once(messages, settings, parameters)
            self.book.lost(response.usage)


class NetworkedProvider(SimulatedProvider):
    """The same behind a simulated network: the real model class, HTTP client and decoding, down to the bytes.

    Args:
        answers: as of `SimulatedProvider`.
        faults: what goes wrong, on the wire too.
        book: where it is written down.
        rng: draws it.
    """

    def __init__(self, answers: Model | str, faults: Faults, book: Book, rng: random.Random) -> None:
        super().__init__(answers, faults, book, rng)
        self.network = SimulatedNetwork(self.wrapped, faults, rng)
        provider = OpenAIProvider(base_url=BASE_URL, api_key="simulated")
        self.wrapped = OpenAIChatModel(self.wrapped.model_name, provider=provider)

    def enter(self, life: Life) -> None:
        super().enter(life)
        self.network.life = life
        self.network.enter()

    async def request_once(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        life = self._alive()
        self.in_flight += 1
        ticket = Ticket(messages[:], model_settings, model_request_parameters)
        number = self.network.ticket(ticket)
        try:
            response = await self.wrapped.request_once(
                messages, _with_ticket(model_settings, number), model_request_parameters
            )
            if life.dead:
                await trio.sleep_forever()
            usage = self._arrived(ticket, response)
            self.book.answered(*_which(messages), usage, whole=True)
            return response
        except UserError as error:  # the simulation cannot do that: it is no failure of the run
            self.book.first = self.book.first or error
            raise
        finally:
            self._done(number, ticket)

    @asynccontextmanager
    async def request_stream_once(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: Any = None,
    ) -> AsyncGenerator[StreamedResponse]:
        life = self._alive()
        self.in_flight += 1
        ticket = Ticket(messages[:], model_settings, model_request_parameters)
        number = self.network.ticket(ticket)
        stream: StreamedResponse | None = None
        try:
            async with self.wrapped.request_stream_once(
                messages, _with_ticket(model_settings, number), model_request_parameters, run_context
            ) as stream:
                yield stream
        finally:
            if stream is not None and not life.dead:
                if stream._came_whole:
                    self.book.answered(*_which(messages), self._arrived(ticket, stream.get()), whole=True)
                else:  # the client knows what it was told by then; the provider charges for all
                    told, made = stream.usage(), ticket.charged.pop()
                    self.book.answered(*_which(messages), told, whole=False)
                    self.book.charged.input_tokens += made.input_tokens - told.input_tokens
                    self.book.charged.output_tokens += made.output_tokens - told.output_tokens
            self._done(number, ticket)

    def _arrived(self, ticket: Ticket, response: ModelResponse) -> RequestUsage:
        """Hold what arrived against what was sent."""
        answer = ticket.answer
        assert answer is not None
        sent, came = (shown(answer), answer.usage), (shown(response), response.usage)
        if sent[0] != came[0] or _tokens(sent[1]) != _tokens(came[1]) or ticket.cut:
            self.book.first = self.book.first or Violation(
                f"the provider sent {sent}{', and cut it' if ticket.cut else ''}; what arrived is {came}"
            )
        return ticket.charged.pop()

    def _done(self, number: str, ticket: Ticket) -> None:
        self.in_flight -= 1
        del self.network.tickets[number]
        for usage in ticket.charged:  # made and charged for, and none of it arrived whole
            self.book.lost(usage)


def _tokens(usage: RequestUsage) -> tuple[int, int]:
    return usage.input_tokens, usage.output_tokens


def _with_ticket(settings: ModelSettings | None, number: str) -> ModelSettings:
    headers = {**(settings or {}).get("extra_headers", {}), TICKET: number}
    return cast("ModelSettings", {**(settings or {}), "extra_headers": headers})


def _which(messages: list[ModelMessage]) -> tuple[str, int]:
    """Whose request this is, and how many responses came before."""
    run_id: str = getattr(messages[-1], "run_id", None) or ""
    return run_id, sum(isinstance(message, ModelResponse) for message in messages)


class _Stream(StreamedResponse):
    """An answer in pieces."""

    def __init__(
        self,
        parameters: ModelRequestParameters,
        response: ModelResponse,
        life: Life,
        *,
        pause: float,
        cut: bool,
    ) -> None:
        super().__init__(parameters)
        self._response = response
        self._life = life
        self._pause = pause
        self._cut = cut
        self._usage = RequestUsage(input_tokens=response.usage.input_tokens)
        self.whole = False

    async def _get_event_iterator(self) -> AsyncIterator[ModelResponseStreamEvent]:
        manager = self._parts_manager
        for number, part in enumerate(self._response.parts):
            await SimulatedProvider._wait(self._life, self._pause)
            if isinstance(part, TextPart):
                middle = len(part.content) // 2
                for event in manager.handle_text_delta(vendor_part_id=number, content=part.content[:middle]):
                    yield event
                self._break()
                for event in manager.handle_text_delta(vendor_part_id=number, content=part.content[middle:]):
                    yield event
            elif isinstance(part, ToolCallPart):
                self._break()
                yield manager.handle_tool_call_part(
                    vendor_part_id=number,
                    tool_name=part.tool_name,
                    args=part.args,
                    tool_call_id=part.tool_call_id,
                )
            else:
                yield manager.handle_part(vendor_part_id=number, part=part)
        self._break()
        self._usage = self._response.usage
        self.finish_reason = self._response.finish_reason
        self.whole = True

    def _break(self) -> None:
        if self._cut:
            self._usage = RequestUsage(input_tokens=self._response.usage.input_tokens, output_tokens=1)
            raise ModelConnectionError(self.model_name, "the simulated stream was cut")

    @property
    def model_name(self) -> str:
        return self._response.model_name or "simulated"

    @property
    def provider_name(self) -> str | None:
        return self._response.provider_name

    @property
    def timestamp(self) -> datetime:
        return self._response.timestamp
