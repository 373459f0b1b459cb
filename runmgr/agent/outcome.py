"""`AgentRunResult`: what a finished run gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Literal

from runmgr.agent.state import GraphAgentState
from runmgr.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    ToolReturnPart,
)
from runmgr.output import OutputDataT
from runmgr.structs import replace
from runmgr.usage import RunUsage

__all__ = ("AgentRunResult", "AgentRunResultEvent")


@dataclass(slots=True)
class AgentRunResult(Generic[OutputDataT]):
    """The result of a run: its output, messages and usage."""

    output: OutputDataT
    """The output."""
    _output_tool_name: str | None = field(default=None, repr=False, compare=False)
    _state: GraphAgentState = field(default_factory=GraphAgentState, repr=False, compare=False)
    _new_message_index: int = field(default=0, repr=False, compare=False)
    _traceparent_value: str | None = field(default=None, repr=False, compare=False)

    def all_messages(self, *, output_tool_return_content: str | None = None) -> list[ModelMessage]:
        """The whole history: what the run started from, and its own messages.

        Args:
            output_tool_return_content: stands in for what the output tool's call was answered with, in a copy; for
                going on from this history with the model told what became of its output.

        Raises:
            ValueError: there is no output tool call to answer.
        """
        messages = self._state.message_history
        if output_tool_return_content is None:
            return messages
        return with_output_return(messages, self._output_tool_name, output_tool_return_content)

    def all_messages_json(self, *, output_tool_return_content: str | None = None) -> bytes:
        """`all_messages` as JSON."""
        return ModelMessagesTypeAdapter.dump_json(
            self.all_messages(output_tool_return_content=output_tool_return_content)
        )

    def new_messages(self, *, output_tool_return_content: str | None = None) -> list[ModelMessage]:
        """The messages of this run, without those that it started from; see `all_messages`."""
        return self.all_messages(output_tool_return_content=output_tool_return_content)[
            self._new_message_index :
        ]

    def new_messages_json(self, *, output_tool_return_content: str | None = None) -> bytes:
        """`new_messages` as JSON."""
        return ModelMessagesTypeAdapter.dump_json(
            self.new_messages(output_tool_return_content=output_tool_return_content)
        )

    @property
    def response(self) -> ModelResponse:
        """The model's last response.

        Raises:
            ValueError: there is none.
        """
        return last_response(self._state.message_history)

    def usage(self) -> RunUsage:
        """What the run used."""
        return self._state.usage

    def timestamp(self) -> datetime:
        """When the last response came."""
        return self.response.timestamp

    @property
    def metadata(self) -> dict[str, Any] | None:
        """The run's metadata."""
        return self._state.metadata

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._state.run_id

    @property
    def abandoned_threads(self) -> tuple[str, ...]:
        """Sync tools and validators whose threads outlived a timeout and were left behind; see `tool_threads`."""
        return tuple(self._state.abandoned_threads)

    def _traceparent(self, *, required: bool = True) -> str | None:
        """The W3C traceparent of the run's span."""
        if self._traceparent_value is None and required:
            raise AttributeError("No span was created for this agent run")
        return self._traceparent_value


@dataclass(repr=False, slots=True)
class AgentRunResultEvent(Generic[OutputDataT]):
    """The last event of ``Agent.run_stream_events``: the result."""

    result: AgentRunResult[OutputDataT]
    event_kind: Literal["agent_run_result"] = field(default="agent_run_result", kw_only=True)

    def __repr__(self) -> str:
        return f"AgentRunResultEvent(result={self.result!r})"


def last_response(messages: list[ModelMessage]) -> ModelResponse:
    """The last response of a history."""
    for message in reversed(messages):
        if isinstance(message, ModelResponse):
            return message
    raise ValueError("No response found in the message history")


def with_output_return(
    messages: list[ModelMessage], tool_name: str | None, content: str
) -> list[ModelMessage]:
    """A copy of the history in which the output tool's call is answered with ``content``.

    Raises:
        ValueError: there is no such answer.
    """
    if tool_name is None:
        raise ValueError("Cannot set output tool return content when the return type is `str`.")
    last = messages[-1] if messages else None
    if isinstance(last, ModelRequest):
        for index, part in enumerate(last.parts):
            if isinstance(part, ToolReturnPart) and part.tool_name == tool_name:
                parts = last.parts[:]
                parts[index] = replace(part, content=content)
                return [*messages[:-1], replace(last, parts=parts)]
    raise LookupError(f"No tool call found with tool name {tool_name!r}.")
