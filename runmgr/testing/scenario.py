"""What the built-in simulation runs: agents that do a bit of everything that a journal could get wrong."""

from __future__ import annotations

import random
from typing import Any

import trio

from runmgr.agent import Agent
from runmgr.exceptions import ModelRetry
from runmgr.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, UserPromptPart
from runmgr.models.function import AgentInfo, FunctionModel
from runmgr.records.budgets import RestartPolicy
from runmgr.records.outcomes import RunOutcome
from runmgr.supervisor import RunSpec
from runmgr.tools.context import RunContext
from runmgr.usage import RequestUsage

from .book import Violation
from .simulation import Simulation

__all__ = ("answers", "built_in_agent", "built_in_items", "check_output", "draw_options")


def built_in_items(count: int, rng: random.Random) -> list[RunSpec]:
    """Runs whose prompts say what they do: ``number turns calls refusals``."""

    def item(number: int) -> RunSpec:
        turns, calls, refusals = rng.choice((0, 1, 2, 2, 3)), rng.choice((1, 1, 2)), rng.choice((0, 0, 0, 1))
        return RunSpec(
            prompt=f"{number} {turns} {calls} {refusals}",
            group=rng.choice(("a", "b")),
            priority=rng.choice((0, 0, 1)),
            timeout=rng.choice((None, None, None, 5.0)),
        )

    return [item(number) for number in range(count)]


def draw_options(simulation: Simulation, rng: random.Random, runs: int) -> None:
    """Draw what the supervisor is told: restarts, a budget."""
    simulation.options.setdefault("restart", rng.choice((None, RestartPolicy(max_restarts=2))))
    if rng.random() < 0.4:
        simulation.budget = int(runs * rng.uniform(200, 1500)) + 5_000


def check_output(spec: RunSpec, outcome: RunOutcome) -> None:
    """Raise where a run that succeeded says what another should have said."""
    if outcome.succeeded and outcome.output != expected_output(spec.prompt):
        raise Violation(
            f"run {outcome.run_id}: its output is {outcome.output!r}, not {expected_output(spec.prompt)!r}"
        )


def expected_output(prompt: str) -> str:
    """What the run of a prompt comes to, if nothing ends it before."""
    return f"answer {prompt.partition(' ')[0]}"


def _answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:  # noqa: ARG001  (a model function's)
    prompt = next(part for part in messages[0].parts if isinstance(part, UserPromptPart)).content
    assert isinstance(prompt, str)
    number, turns, calls, retries = map(int, prompt.split())
    turn = sum(isinstance(message, ModelResponse) for message in messages)
    usage = RequestUsage(input_tokens=120 * len(messages) + number % 7, output_tokens=12 + turn + number % 5)
    parts: list[Any]
    if turn < turns:
        parts = [ToolCallPart("work", {"n": turn}, f"c{turn}-{call}") for call in range(calls)]
    elif turn < turns + retries:
        parts = [TextPart("not yet")]
    else:
        parts = [TextPart(expected_output(prompt))]
    return ModelResponse(parts=parts, usage=usage, model_name="simulated")


def answers() -> FunctionModel:
    """The model that knows all the answers."""
    return FunctionModel(_answer, model_name="simulated")


def built_in_agent(simulation: Simulation) -> Agent[None, str]:
    """An agent with a tool that takes its time and now and then fails, and an output that is refused now and then."""
    agent: Agent[None, str] = Agent(answers(), name="simulated", retries=3, model_settings={"max_tokens": 20})
    rng, faults = simulation.rng, simulation.faults

    @agent.tool(idempotent=True)
    async def work(ctx: RunContext[None], n: int) -> int:  # pyright: ignore[reportUnusedFunction]
        """Work a little."""
        simulation.acting(ctx)
        try:
            await trio.sleep(rng.random())
            value = rng.random()
            if value < faults.tool_error / 2:
                raise ModelRetry("not now")
            if value < faults.tool_error:
                raise RuntimeError("a simulated error in a tool")
            return n + 1
        finally:
            simulation.acted()

    @agent.output_validator
    async def check(value: str) -> str:  # pyright: ignore[reportUnusedFunction]
        await trio.sleep(0.01)
        if value == "not yet":
            raise ModelRetry("is that all?")
        return value

    return agent
