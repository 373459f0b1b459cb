"""``sim:``: a simulated model in this process. No network, no cost, virtual time where the clock is virtual."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import trio

from runmgr.exceptions import MalformedResponseError, ModelConnectionError, ModelHTTPError
from runmgr.messages import (
    ModelMessage,
    ModelResponse,
    ModelResponsePart,
    ModelResponseStreamEvent,
    RetryPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from runmgr.models.base import Model, StreamedResponse
from runmgr.models.sim_config import Fault, SimConfig, parse_sim
from runmgr.models.sim_engine import Engine, Offer, Plan
from runmgr.models.sim_script import Script
from runmgr.profiles import ModelProfileSpec
from runmgr.records.definitions import ModelRequestParameters
from runmgr.settings import ModelSettings
from runmgr.usage import RequestUsage

if TYPE_CHECKING:
    from runmgr.tools import RunContext

__all__ = ("SimConfig", "SimModel")


class SimModel(Model):
    """A simulated model: latencies, lengths, tool calls and failures as its configuration says, from a seed.

    The same request gets the same answer in the same time, whatever else runs; times are trio's, so that a mock clock
    makes them virtual. One token is one word.

    Args:
        config: a `SimConfig`, or the text that follows ``sim:``; by default an instant model of 16-token answers.
        answers: known questions and their answers, found where a question stands in a user message.
        scripts: what it says turn by turn, tool calls among it: as `read_scripts` reads them; they go before answers.
        settings: defaults for every request.
        profile: as for every model.

    Raises:
        UserError: the text has an unknown key or a bad value.
    """

    def __init__(
        self,
        config: SimConfig | str = "",
        *,
        answers: Mapping[str, str] | None = None,
        scripts: Sequence[Script] = (),
        settings: ModelSettings | None = None,
        profile: ModelProfileSpec | None = None,
    ) -> None:
        super().__init__(settings=settings, profile=profile)
        self._text = config if isinstance(config, str) else ""
        self.engine = Engine(parse_sim(config) if isinstance(config, str) else config, answers, scripts)

    @property
    def model_name(self) -> str:
        """``sim``, with its configuration where that was given as text."""
        return f"sim:{self._text}" if self._text else "sim"

    @property
    def system(self) -> str:
        """``sim``."""
        return "sim"

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Answer as planned, after the planned time. One try: a fault is raised.

        Raises:
            ModelHTTPError: a planned 429, 500 or 503.
            ModelConnectionError: a planned disconnect or hang.
            MalformedResponseError: a planned cut or garbled body.
        """
        plan = self._plan(messages, model_settings, model_request_parameters)
        if plan.fault is not None:
            await self._meet(plan.fault, plan)
        await _pause(plan.seconds)
        return ModelResponse(
            parts=_parts(plan),
            usage=RequestUsage(input_tokens=plan.input_tokens, output_tokens=plan.output_tokens),
            model_name=self.model_name,
            provider_name="sim",
            finish_reason=_finish(plan),
        )

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,  # noqa: ARG002  (the protocol's)
    ) -> AsyncGenerator[StreamedResponse]:
        """Answer a word at a time. Faults that come before a first token are raised here, a cut while reading."""
        _, parameters = self.prepare_request(model_settings, model_request_parameters)
        plan = self._plan(messages, model_settings, model_request_parameters)
        if plan.fault is not None and plan.fault not in {"truncate", "garbage"}:
            await self._meet(plan.fault, plan)
        await _pause(plan.ttft)
        response = SimStreamedResponse(parameters, plan, self.model_name)
        try:
            yield response
        finally:
            await response.aclose()

    def _plan(
        self, messages: list[ModelMessage], settings: ModelSettings | None, parameters: ModelRequestParameters
    ) -> Plan:
        settings, parameters = self.prepare_request(settings, parameters)
        return self.engine.plan(offer_of(messages, settings, parameters))

    async def _meet(self, fault: Fault, plan: Plan) -> None:
        name = self.model_name
        match fault:
            case "429" | "503":
                await _pause(0)
                body = {"error": {"message": f"simulated {fault}"}}
                raise ModelHTTPError(int(fault), name, body, headers={"retry-after": "0.2"})
            case "500":
                await _pause(0)
                raise ModelHTTPError(500, name, {"error": {"message": "simulated 500"}})
            case "hang":
                await _pause(self.engine.config.hang)
                raise ModelConnectionError(
                    name, "the simulated provider stayed silent, then closed the connection"
                )
            case "disconnect":
                await _pause(plan.ttft)
                raise ModelConnectionError(name, "the simulated provider closed the connection")
            case "truncate" | "garbage":
                await _pause(plan.seconds)
                raise MalformedResponseError(name, f"the simulated provider's body was bad ({fault})")


class SimStreamedResponse(StreamedResponse):
    """A simulated answer, a word an event."""

    def __init__(self, parameters: ModelRequestParameters, plan: Plan, model_name: str) -> None:
        super().__init__(parameters)
        self._plan = plan
        self._model_name = model_name
        self._timestamp = ModelResponse(parts=[]).timestamp
        self._usage = RequestUsage(input_tokens=plan.input_tokens)

    async def _get_event_iterator(self) -> AsyncIterator[ModelResponseStreamEvent]:
        plan, parts = self._plan, self._parts_manager
        calls = plan.calls
        pieces = [call.arguments for call in calls] or (plan.text or "").split(" ")
        for number, piece in enumerate(pieces):
            if number:
                await _pause(plan.gaps[number - 1] if plan.gaps else plan.gap)
            if plan.fault is not None and number >= len(pieces) // 2:
                raise MalformedResponseError(self._model_name, f"the simulated stream was cut ({plan.fault})")
            self._usage.output_tokens += 1
            if calls:
                call = calls[number]
                event = parts.handle_tool_call_delta(
                    vendor_part_id=number, tool_name=call.name, args=piece, tool_call_id=call.id
                )
                if event is not None:
                    yield event
            else:
                for event in parts.handle_text_delta(
                    vendor_part_id=0, content=f" {piece}" if number else piece
                ):
                    yield event
        self._usage.output_tokens = plan.output_tokens
        self.finish_reason = _finish(plan)

    @property
    def model_name(self) -> str:
        """The simulated model's name."""
        return self._model_name

    @property
    def provider_name(self) -> str | None:
        """``sim``."""
        return "sim"

    @property
    def timestamp(self) -> datetime:
        """When the first token came."""
        return self._timestamp


def offer_of(
    messages: list[ModelMessage], settings: ModelSettings | None, parameters: ModelRequestParameters
) -> Offer:
    """What the engine looks at in a request: O(length of the conversation)."""
    question, answered, words = "", 0, 0
    seen: list[str] = []
    for message in messages:
        for part in message.parts:
            match part:
                case UserPromptPart():
                    text = part.content if isinstance(part.content, str) else _text_of(part.content)
                    question, answered = text, 0
                case ToolReturnPart():
                    text = part.model_response_str()
                    answered += 1
                case RetryPromptPart():
                    text = part.model_response()
                    answered += part.tool_name is not None  # on the wire it is a tool's result like any other
                case ToolCallPart():
                    text = part.args_as_json_str()
                case _:
                    content = getattr(part, "content", None)
                    text = content if isinstance(content, str) else ""
            seen.append(text)
            words += len(text.split())
    return Offer(
        question=question,
        digest_of="\0".join(seen).encode("utf-8", "surrogatepass"),
        input_tokens=words,
        answered=answered,
        tools=tuple((tool.name, tool.parameters_json_schema) for tool in parameters.function_tools),
        output_tool=next(((tool.name, tool.parameters_json_schema) for tool in parameters.output_tools), None)
        if not parameters.allow_text_output
        else None,
        max_tokens=settings.get("max_tokens") if settings else None,
    )


def _text_of(content: Any) -> str:
    return " ".join(item for item in content if isinstance(item, str))


def _parts(plan: Plan) -> list[ModelResponsePart]:
    if plan.call is None:
        return [TextPart(plan.text or "")]
    if not plan.more:
        return [ToolCallPart(plan.call.name, plan.call.arguments, plan.call.id)]
    return [ToolCallPart(call.name, call.arguments, call.id) for call in plan.calls]


def _finish(plan: Plan) -> Any:
    return "tool_call" if plan.call is not None else "length" if plan.cut else "stop"


async def _pause(seconds: float) -> None:
    if seconds > 0:
        await trio.sleep(seconds)
    else:
        await trio.lowlevel.checkpoint()
