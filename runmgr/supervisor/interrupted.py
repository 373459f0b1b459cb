"""Tools that were running when a process ended, and what becomes of their runs.

The journal has the response that asked for them, and not what they did. A tool that may be called twice is called again. For the
others somebody must know: their run is paused with a question, and goes on when it is answered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import msgspec

from runmgr.exceptions import ToolInterrupted, UserError
from runmgr.messages import ModelResponse, ToolCallPart
from runmgr.tools.deferred import ToolApproved

from . import commands

if TYPE_CHECKING:
    from .actor import Actor
    from .commands import Answer
    from .runtime import Runtime

__all__ = ("InterruptedTools", "Question", "answer", "look")

InterruptedTools: TypeAlias = Literal["ask", "repeat", "fail"]
"""What becomes of a resumed run whose tools were running: see `open_supervisor`."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What a resumed run asks before it goes on: were these tools' calls carried out, and what came of them?"""

    run_id: str
    calls: tuple[Any, ...]
    """`ToolCallPart` values of tools that are not declared ``idempotent=True``; each may have been carried out, or in part, or not."""

    def __str__(self) -> str:
        calls = ", ".join(
            f"{call.tool_name}({call.args_as_json_str()}) [{call.tool_call_id}]" for call in self.calls
        )
        return (
            f"run {self.run_id}: its process ended while these tools were running: {calls}. They may have done their work. "
            "`handle.answer({call id: result})` says what came of them, `handle.resume()` calls them again, "
            "`handle.cancel()` ends the run"
        )


async def look(runtime: Runtime, actor: Actor, stepper: Any) -> None:
    """Called by the task of a run that goes on in another process, before its first node: ask, where something is to be asked.

    Raises:
        ToolInterrupted: nobody is there to answer.
    """
    policy = runtime.interrupted_tools
    if policy == "repeat":
        return
    calls = _calls(actor, stepper)
    if not calls:
        return
    tools = await _tools(stepper)
    asking = tuple(
        call for call in calls if _must_ask(tools.get(call.tool_name), declared_only=policy == "fail")
    )
    if not asking:
        return
    question = Question(run_id=actor.run_id, calls=asking)
    if policy == "fail":
        raise ToolInterrupted(str(question))
    actor.extras().question = question
    commands.pause(runtime, actor)


def _calls(actor: Actor, stepper: Any) -> list[ToolCallPart]:
    """The calls whose tools were running."""
    node = stepper.next_node
    response = getattr(node, "model_response", None)
    if isinstance(response, ModelResponse):
        return [part for part in response.parts if type(part) is ToolCallPart]
    results = getattr(node, "deferred_tool_results", None)
    if results is None or not actor._checkpoints:  # without a checkpoint it had not begun
        return []
    # It was begun with answers to the calls that its history ends with: of those, the approved ones were made.
    approved = {
        call_id
        for call_id, said in results.approvals.items()
        if said is True or isinstance(said, ToolApproved)
    }
    approved |= {call_id for call_id, said in results.calls.items() if isinstance(said, ToolApproved)}
    messages: list[Any] = stepper.ctx.state.message_history
    return [
        part
        for message in reversed(messages)
        if isinstance(message, ModelResponse)
        for part in message.parts
        if type(part) is ToolCallPart and part.tool_call_id in approved
    ]


async def _tools(stepper: Any) -> Mapping[str, Any]:
    from runmgr.agent.state import build_run_context

    manager = stepper.ctx.deps.tool_manager
    if not manager.prepared:
        await manager.prepare(build_run_context(stepper.ctx))
    return cast("Mapping[str, Any]", manager.tools)


def _must_ask(tool: Any, *, declared_only: bool) -> bool:
    """Whether a call of this tool may not simply be made again."""
    while (source := getattr(tool, "source_tool", None)) is not None:
        tool = source
    if tool is None or tool.tool_def.kind == "output":
        return False  # there is none of that name, or it only says that the run is over
    from runmgr.toolsets.function import FunctionToolsetTool

    idempotent = tool.idempotent if isinstance(tool, FunctionToolsetTool) else None
    return idempotent is False or (idempotent is None and not declared_only)


def answer(runtime: Runtime, actor: Actor, results: Mapping[str, Any]) -> Answer[None]:
    """See `RunHandle.answer`."""
    commands.check_live(actor, "be answered")
    question = None if actor._extras is None else actor._extras.question
    if question is None:
        raise UserError(f"run {actor.run_id} has asked nothing")
    known = {call.tool_call_id for call in question.calls}
    unknown = results.keys() - known
    if unknown:
        raise UserError(f"run {actor.run_id} did not ask for {_list(unknown)}: it asked for {_list(known)}")
    node = actor._stepper.next_node
    given = getattr(node, "deferred_tool_results", None)
    if given is not None:
        approvals = {call_id: said for call_id, said in given.approvals.items() if call_id not in results}
        node.deferred_tool_results = replace(given, calls={**given.calls, **results}, approvals=approvals)
        actor.extras().question = None
        return commands.resume(runtime, actor)
    parts = cast("list[Any]", node.model_response.parts)
    # What is not answered is called, or called again.
    node.tool_call_results = {
        part.tool_call_id: results.get(part.tool_call_id, ToolApproved())
        for part in parts
        if type(part) is ToolCallPart
    }
    actor.extras().question = None
    return commands.resume(runtime, actor)


def _list(ids: Iterable[str]) -> str:
    return ", ".join(sorted(ids))
