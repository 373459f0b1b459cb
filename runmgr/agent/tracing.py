"""The spans of runs and of their tools, by OpenTelemetry's GenAI conventions; imported only when a run is instrumented."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import trio

from runmgr.agent.state import GraphAgentDeps, GraphAgentState
from runmgr.exceptions import ApprovalRequired, CallDeferred, ToolRetryError
from runmgr.messages import ToolCallPart
from runmgr.messages.codec import dump_any
from runmgr.models.otel import note_failure
from runmgr.tools.context import RunContext

if TYPE_CHECKING:
    from contextvars import Token

    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    from runmgr.agent.run import AgentRun
    from runmgr.models.instrumented import InstrumentationSettings

__all__ = ("RunSpan", "start_run_span", "traced_tool_call")


def start_run_span(
    settings: InstrumentationSettings,
    name: str | None,
    deps: GraphAgentDeps[Any, Any],
    state: GraphAgentState,
) -> RunSpan:
    """Start the span of a run and make it current, until `RunSpan.end`.

    Args:
        settings: where it goes and what it may tell.
        name: the agent's.
        deps: the run's.
        state: the run's.
    """
    agent = name or "agent"
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": agent,
        "gen_ai.provider.name": deps.model.system,
        "gen_ai.request.model": deps.model.model_name,
        "gen_ai.conversation.id": state.run_id,
        "agent_name": agent,
        "model_name": deps.model.model_name,
        "logfire.msg": f"{agent} run",
    }
    span_name = f"invoke_agent {agent}" if settings.version >= 3 else "agent run"
    return RunSpan(settings.tracer.start_span(span_name, attributes=attributes), settings)


class RunSpan:
    """The span of one run."""

    __slots__ = ("_settings", "_span", "_token", "run", "traceparent")

    def __init__(self, span: Span, settings: InstrumentationSettings) -> None:
        from opentelemetry.context import attach
        from opentelemetry.trace import set_span_in_context

        self._span = span
        self._settings = settings
        self._token: Token[Context] = attach(set_span_in_context(span))
        self.run: AgentRun[Any, Any] | None = None
        context = span.get_span_context()
        self.traceparent: str | None = (
            f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"
            if context.is_valid
            else None
        )

    def end(self, error: BaseException | None) -> None:
        """Note how the run ended, and end the span."""
        from opentelemetry.context import detach

        span = self._span
        try:
            if span.is_recording():
                if self.run is not None:
                    span.set_attributes(self._told(self.run))
                if error is not None:
                    note_failure(span, error, include_content=self._settings.include_content)
        finally:
            span.end()
            detach(self._token)

    def _told(self, run: AgentRun[Any, Any]) -> dict[str, Any]:
        settings = self._settings
        state = run.ctx.state
        attributes: dict[str, Any] = dict(state.usage.opentelemetry_attributes())
        if state.metadata:
            attributes["metadata"] = json.dumps(state.metadata, default=str)
        attributes["pydantic_ai.all_messages"] = json.dumps(
            settings.messages_to_otel_messages(state.message_history), default=str
        )
        if (start := run.ctx.deps.new_message_index) > 0:
            attributes["pydantic_ai.new_message_index"] = start
        attributes.update(settings.system_instructions_attributes(run.ctx.deps.plan.instructions))
        result = run.result
        if result is not None and settings.include_content:
            output = result.output
            attributes["final_result"] = output if isinstance(output, str) else dump_any(output).decode()
        return attributes


async def traced_tool_call(
    deps: GraphAgentDeps[Any, Any],
    call: ToolCallPart,
    run_context: RunContext[Any],
    *,
    approved: bool,
    metadata: dict[str, Any] | None,
) -> Any:
    """Run a tool call within a span ``execute_tool NAME``."""
    settings = deps.instrumentation_settings
    assert settings is not None, "only instrumented runs are traced"
    with _tool_span(settings, call) as span:
        result = await deps.tool_manager.call(call, run_context, approved=approved, metadata=metadata)
        if settings.include_content and span.is_recording():
            shown = result if isinstance(result, str) else dump_any(result).decode()
            span.set_attribute("gen_ai.tool.call.result" if settings.version >= 3 else "tool_response", shown)
        return result


@contextmanager
def _tool_span(settings: InstrumentationSettings, call: ToolCallPart) -> Generator[Span]:
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": call.tool_name,
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": call.tool_call_id,
        "logfire.msg": f"running tool: {call.tool_name}",
    }
    current = settings.version >= 3
    if settings.include_content:
        attributes["gen_ai.tool.call.arguments" if current else "tool_arguments"] = call.args_as_json_str()
    name = f"execute_tool {call.tool_name}" if current else "running tool"
    tracer = settings.tracer
    with tracer.start_as_current_span(
        name, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield span
        except (CallDeferred, ApprovalRequired):
            raise  # that is no failure
        except ToolRetryError as retry:
            if settings.include_content and span.is_recording():
                span.set_attribute(
                    "gen_ai.tool.call.result" if current else "tool_response",
                    retry.tool_retry.model_response(),
                )
            note_failure(span, retry, include_content=settings.include_content)
            raise
        except (Exception, trio.Cancelled) as error:
            if span.is_recording():
                note_failure(span, error, include_content=settings.include_content)
            raise
