"""The steps of a run that a host drives, without coroutines of their own.

A coroutine that waits is an object, and so is most of what it holds: with ten thousand runs in flight Python's collector looks at each
of them, time and again. So a host takes a step in two halves, `go` and `took`, and awaits in its own coroutine what the step waits for.
What a step does is said in `runmgr.agent.nodes`; wherever anything about it is out of the ordinary, it is done there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runmgr.agent.begin import first_request
from runmgr.agent.direct import direct_tool
from runmgr.agent.nodes import CallToolsNode, ModelRequestNode, UserPromptNode
from runmgr.agent.respond import act_on, call_directly, glance
from runmgr.agent.result import FinalResult
from runmgr.agent.send import prepare_now, receive_response
from runmgr.graph import End
from runmgr.messages import ModelRequest

if TYPE_CHECKING:
    from runmgr.agent.run import AgentRun

__all__ = ("go", "took")

_END: Any = End
_CALL_TOOLS: Any = CallToolsNode
_REQUEST: Any = ModelRequestNode
_FINAL: Any = FinalResult
"""Without parameters: filling them in costs more than the call."""
_new: Any = object.__new__
"""Nodes are made without their ``__init__``: all that is not given is a default, which the class has."""


def go(run: AgentRun[Any, Any], node: Any) -> Any:
    """Begin to run a node, as `AgentRun.next` does: gives what comes next, or a coroutine whose result is for `took`.

    Raises:
        UsageLimitExceeded: one more request, or the tokens of this one, are too many.
        UserError: there is nothing to ask the model.
    """
    if run._cancellation is not None:
        return run._step(node)
    kind: Any = type(node)  # pyright: ignore[reportUnknownVariableType]
    if kind is ModelRequestNode:
        if node._result is None and node._partial is None and not node._streaming:
            deps = run._deps
            host = deps.host
            run._started = True
            run._next_node = node
            prepared = None if host is None else prepare_now(node.request, run._state, deps)
            if host is not None and prepared is not None:
                messages, settings, params = prepared
                return host.request(deps.model, messages, settings, params)
    elif kind is CallToolsNode:
        if node._next_node is None and node.tool_call_results is None:
            return _act(run, node)
    elif kind is UserPromptNode and node.deferred_tool_results is None:
        plan = run._deps.plan
        if not (run._state.message_history or node.system_prompt_functions or plan.instructions_functions):
            run._started = True
            request = first_request(node.user_prompt, node.system_prompts, plan.instructions)
            following = run._next_node = _new(_REQUEST)
            following.request = request
            return following
    return run._step(node)


def _act(run: AgentRun[Any, Any], node: CallToolsNode[Any, Any]) -> Any:
    """Act on a response: at once where it is the run's output."""
    deps = run._deps
    seen = glance(node.model_response)
    if type(seen) is str:
        if seen and deps.plan.plain_text:
            run._started = True
            following = node._next_node = _END(_FINAL(seen))
            run._end(following)
            return following
    elif type(seen) is list and not (deps.hosted and deps.host is not None and deps.host.wants_events):
        run._started = True
        run._next_node = node
        tool = direct_tool(deps, seen)
        if tool is None:
            return act_on(node, run.ctx, seen, None)
        return call_directly(node, run._state, deps, tool, seen, run._get_ctx)
    return run._step(node)


def took(run: AgentRun[Any, Any], node: Any, result: Any) -> Any:
    """What comes next, by what was awaited for it.

    Args:
        run: the run.
        node: the node that `go` began to run.
        result: what its coroutine gave.

    Raises:
        UsageLimitExceeded: the response's tokens are too many.
    """
    if result is run._next_node:  # it was done by the node itself
        return result
    if type(result) is End:
        ended: Any = result
        node._next_node = ended
        run._end(ended)
        return ended
    if type(result) is ModelRequest:
        following = node._next_node = _new(_REQUEST)
        following.request = result
    else:
        receive_response(result, run._state, run._deps)
        following = node._result = _new(_CALL_TOOLS)
        following.model_response = result
    run._next_node = following
    return following
