"""`TestModel`: a model for tests that calls every tool once and then answers, without a provider."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import trio

from runmgr.builtin_tools import SUPPORTED_BUILTIN_TOOLS, AbstractBuiltinTool
from runmgr.exceptions import UnexpectedModelBehavior, UserError
from runmgr.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ModelResponsePart,
    ModelResponseStreamEvent,
    RetryPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    now_utc,
)
from runmgr.messages.codec import dump_any
from runmgr.models.base import Model
from runmgr.models.estimate import count_words, estimate_usage
from runmgr.models.examples import example
from runmgr.models.stream import StreamedResponse
from runmgr.profiles import ModelProfileSpec
from runmgr.records.definitions import ModelRequestParameters, ToolDefinition
from runmgr.settings import ModelSettings
from runmgr.usage import RequestUsage

if TYPE_CHECKING:
    from runmgr.tools import RunContext

__all__ = ("TestModel", "TestStreamedResponse")

_SUCCESS = "success (no tool calls)"


@dataclass(init=False, eq=False)
class TestModel(Model):
    """A model that calls the tools, and then answers with what fits.

    In its first response it calls the function tools, each once, with arguments made from their schemas. After that it
    answers: with an output tool where text is not allowed, else with a text that lists what the tools returned. A call
    that failed is made again.

    Args:
        call_tools: names of the tools to call, or ``'all'``.
        custom_output_text: answer with this text.
        custom_output_args: call the first output tool with these arguments.
        seed: where generated arguments start, and which output tool is called.
        model_name: how the model is called.
        profile: what the model can do.
        settings: defaults for every request.

    Attributes:
        last_model_request_parameters: those of the last request, as they were prepared.
    """

    # Not a test case, whatever pytest thinks of its name.
    __test__ = False

    call_tools: list[str] | Literal["all"] = "all"
    custom_output_text: str | None = None
    custom_output_args: Any | None = None
    seed: int = 0
    last_model_request_parameters: ModelRequestParameters | None = field(default=None, init=False)

    def __init__(
        self,
        *,
        call_tools: list[str] | Literal["all"] = "all",
        custom_output_text: str | None = None,
        custom_output_args: Any | None = None,
        seed: int = 0,
        model_name: str = "test",
        profile: ModelProfileSpec | None = None,
        settings: ModelSettings | None = None,
    ) -> None:
        self.call_tools = call_tools
        self.custom_output_text = custom_output_text
        self.custom_output_args = custom_output_args
        self.seed = seed
        self.last_model_request_parameters = None
        self._model_name = model_name
        super().__init__(settings=settings, profile=profile)

    @property
    def model_name(self) -> str:
        return self._model_name

    @property
    def system(self) -> str:
        return "test"

    @classmethod
    def supported_builtin_tools(cls) -> frozenset[type[AbstractBuiltinTool]]:
        """All of them pass preparation; a request with any of them is refused."""
        return SUPPORTED_BUILTIN_TOOLS

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Answer at once.

        Raises:
            UserError: built-in tools were asked for, or the custom output does not fit what is allowed.
            AssertionError: the same, where Pydantic AI asserts it.
            KeyError: ``call_tools`` names a tool that is not there.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        _settings, params = self.prepare_request(model_settings, model_request_parameters)
        self.last_model_request_parameters = params
        response = self._answer(messages, params)
        response.usage = estimate_usage((*messages, response))
        return response

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        """Answer at once, word by word. Raises as `request` does."""
        del run_context
        await trio.lowlevel.checkpoint_if_cancelled()
        _settings, params = self.prepare_request(model_settings, model_request_parameters)
        self.last_model_request_parameters = params
        answer = self._answer(messages, params)
        response = TestStreamedResponse(params, self._model_name, answer, messages, self.system)
        try:
            yield response
        finally:
            await response.aclose()

    def gen_tool_args(self, tool_def: ToolDefinition) -> Any:
        """Arguments that a tool's schema allows, made from ``seed``."""
        return example(tool_def.parameters_json_schema, self.seed)

    # ------------------------------------------------------------- the answer

    def _answer(self, messages: list[ModelMessage], params: ModelRequestParameters) -> ModelResponse:
        if params.builtin_tools:
            raise UserError("TestModel does not support built-in tools")
        calls = self._calls(params)
        output = self._output(params)
        if calls and not any(isinstance(message, ModelResponse) for message in messages):
            parts: list[ModelResponsePart] = [
                ToolCallPart(tool.name, self.gen_tool_args(tool), tool_call_id=_call_id(tool.name))
                for tool in calls
            ]
            return self._response(parts)
        last = messages[-1] if messages else None
        if not isinstance(last, ModelRequest):
            raise AssertionError("Expected last message to be a `ModelRequest`.")  # noqa: TRY004 (as Pydantic AI has it)
        retried = {part.tool_name for part in last.parts if isinstance(part, RetryPromptPart)}
        if retried:
            return self._response(self._retry(retried, calls, params))
        if isinstance(output, ToolCallPart):
            return self._response([output])
        return self._response([TextPart(_told(messages) if output is None else output)])

    def _calls(self, params: ModelRequestParameters) -> list[ToolDefinition]:
        if self.call_tools == "all":
            return params.function_tools
        tools = {tool.name: tool for tool in params.function_tools}
        return [tools[name] for name in self.call_tools]

    def _output(self, params: ModelRequestParameters) -> ToolCallPart | str | None:
        """What the answer will be: an output tool's call, a text, or None for a text about the tools."""
        if self.custom_output_text is not None:
            if not params.allow_text_output:
                raise AssertionError("Plain response not allowed, but `custom_output_text` is set.")
            if self.custom_output_args is not None:
                raise AssertionError("Cannot set both `custom_output_text` and `custom_output_args`.")
            return self.custom_output_text
        tools = params.output_tools
        if self.custom_output_args is not None:
            if not tools:
                raise AssertionError("No output tools provided, but `custom_output_args` is set.")
            return self._output_call(tools[0])
        if params.allow_text_output or not tools:
            return None
        return self._output_call(tools[self.seed % len(tools)])

    def _output_call(self, tool: ToolDefinition) -> ToolCallPart:
        args = self.custom_output_args
        if args is None:
            args = self.gen_tool_args(tool)
        elif tool.outer_typed_dict_key:
            args = {tool.outer_typed_dict_key: args}
        return ToolCallPart(tool.name, args, tool_call_id=_call_id(tool.name))

    def _retry(
        self,
        retried: set[str | None],
        calls: list[ToolDefinition],
        params: ModelRequestParameters,
    ) -> list[ModelResponsePart]:
        """The calls that failed, again; those of output tools last. Nothing where no call failed but the text did."""
        parts: list[ModelResponsePart] = [
            ToolCallPart(tool.name, self.gen_tool_args(tool)) for tool in calls if tool.name in retried
        ]
        parts.extend(self._output_call(tool) for tool in params.output_tools if tool.name in retried)
        return parts

    def _response(self, parts: list[ModelResponsePart]) -> ModelResponse:
        return ModelResponse(parts=parts, model_name=self._model_name)


def _call_id(tool_name: str) -> str:
    """Ids that tests can write down beforehand."""
    return f"pyd_ai_tool_call_id__{tool_name}"


def _told(messages: list[ModelMessage]) -> str:
    """What the tools returned, by their names, as JSON."""
    returned: dict[str, Any] = {
        part.tool_name: part.content
        for message in messages
        if isinstance(message, ModelRequest)
        for part in message.parts
        if isinstance(part, ToolReturnPart)
    }
    if not returned:
        return _SUCCESS
    from pydantic_core import PydanticSerializationError, to_json

    try:
        return to_json(returned).decode()
    except PydanticSerializationError as error:
        try:
            return dump_any(
                returned
            ).decode()  # attrs classes and structs, which pydantic alone does not know
        except ValueError:
            raise error from None


class TestStreamedResponse(StreamedResponse):
    """A `TestModel`'s answer, word by word."""

    __test__ = False

    def __init__(
        self,
        model_request_parameters: ModelRequestParameters,
        model_name: str,
        answer: ModelResponse,
        messages: list[ModelMessage],
        provider_name: str,
    ) -> None:
        super().__init__(model_request_parameters)
        self._model_name = model_name
        self._answer = answer
        self._provider_name = provider_name
        self._timestamp = now_utc()
        self._usage = estimate_usage(messages)

    @property
    def model_name(self) -> str:
        return self._model_name

    @property
    def provider_name(self) -> str | None:
        return self._provider_name

    @property
    def timestamp(self) -> datetime:
        return self._timestamp

    async def _get_event_iterator(self) -> AsyncIterator[ModelResponseStreamEvent]:
        manager = self._parts_manager
        for number, part in enumerate(self._answer.parts):
            if isinstance(part, TextPart):
                for event in manager.handle_text_delta(vendor_part_id=number, content=""):
                    yield event
                for word in _words(part.content):
                    self._usage = self._usage + RequestUsage(output_tokens=count_words(word))
                    for event in manager.handle_text_delta(vendor_part_id=number, content=word):
                        yield event
            elif isinstance(part, ToolCallPart):
                yield manager.handle_tool_call_part(
                    vendor_part_id=number,
                    tool_name=part.tool_name,
                    args=part.args,
                    tool_call_id=part.tool_call_id,
                )
            else:
                raise UnexpectedModelBehavior(f"TestModel answers with text and tool calls, not {part!r}")


def _words(text: str) -> list[str]:
    """A text in pieces: its words with the space behind them; a single word in two halves."""
    *before, last = text.split(" ")
    words = [f"{word} " for word in before] + [last]
    if len(words) == 1 and len(text) > 1:
        middle = len(text) // 2
        words = [text[:middle], text[middle:]]
    return words
