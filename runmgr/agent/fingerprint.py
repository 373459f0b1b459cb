"""What an agent would send, as a digest: for telling whether two batches ask the same."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from runmgr.agent.prompts import split_instructions
from runmgr.models import Model
from runmgr.toolsets.abstract import AbstractToolset

if TYPE_CHECKING:
    from runmgr.agent.agent import Agent

__all__ = ("fingerprint",)


def fingerprint(agent: Agent[Any, Any]) -> str:
    """SHA-256 of the agent's constants, as hex digits."""
    model = agent.model
    text, functions = split_instructions(agent._instructions)
    settings = agent.model_settings
    described = {
        "model": f"{model.system}:{model.model_name}" if isinstance(model, Model) else model,
        "instructions": text,
        "instructions_functions": [_name(runner.function) for runner in functions],
        "system_prompts": list(agent._system_prompts),
        "system_prompt_functions": [_name(runner.function) for runner in agent._system_prompt_functions],
        "output": agent.output_json_schema(),
        "output_mode": agent._output_schema.mode,
        "tools": [_toolset(toolset) for toolset in agent.toolsets],
        "settings": _name(settings) if callable(settings) else settings,
        "end_strategy": agent.end_strategy,
        "retries": [agent._max_tool_retries, agent._max_result_retries],
    }
    encoded = json.dumps(described, sort_keys=True, default=_plain).encode()
    return hashlib.sha256(encoded).hexdigest()


def _toolset(toolset: AbstractToolset[Any]) -> Any:
    tools = toolset.static_tools()
    if tools is None:
        return [toolset.label]
    return [asdict(tool.tool_def) for tool in tools.values()]


def _name(function: Any) -> str:
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__qualname__)}"


def _plain(value: Any) -> Any:
    try:
        return sorted(value)
    except TypeError:
        return _name(value)
