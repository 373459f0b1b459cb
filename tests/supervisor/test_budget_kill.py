"""What was spent of budgets is known after a kill -9 too, with what was in flight."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, sys, trio
from runmgr import Agent, Budget, open_supervisor
from runmgr.messages import ModelResponse, ToolCallPart
from runmgr.models.function import FunctionModel
from runmgr.usage import RequestUsage

journal, log = sys.argv[1:3]
of_run, of_group, of_all, die = map(int, sys.argv[3:])

def asked():
    return os.path.getsize(log) if os.path.exists(log) else 0

async def answer(messages, info):
    with open(log, "a") as file:
        file.write("x")
    call = ToolCallPart("work", {}, f"c{asked()}")
    await trio.sleep(0.005)
    return ModelResponse(parts=[call], usage=RequestUsage(input_tokens=10, output_tokens=5))

agent = Agent(FunctionModel(answer), model_settings={"max_tokens": 5})

@agent.tool_plain(idempotent=True)
async def work() -> str:
    await trio.sleep(0.002)
    if die and asked() >= die:
        os.kill(os.getpid(), signal.SIGKILL)
    return "worked"

async def main():
    budgets = {"group_budgets": {"g": Budget(requests=of_group)}, "run_budget": Budget(requests=of_run)}
    if of_all:
        budgets = {"budget": Budget(output_tokens=of_all)}
    async with open_supervisor(journal=journal, resume=True, **budgets) as sup:
        handles = [await sup.submit(agent, "go", run_id=f"r{n}", group="g") for n in range(4)]
        for handle in handles:
            outcome = await handle.outcome()
            print(outcome.usage.requests, outcome.error.type, outcome.error.message.split(" is ")[0])

trio.run(main)
"""


@pytest.mark.parametrize(
    ("of_run", "of_group", "of_all", "scope"),
    [(5, 100, 0, "run"), (100, 14, 0, "group"), (100, 100, 14 * 5, "supervisor")],
)
def test_what_was_spent_before_a_kill_counts(tmp_path, of_run, of_group, of_all, scope):
    def begin(die):
        words = [tmp_path / "journal.sqlite", tmp_path / "log", of_run, of_group, of_all, die]
        return subprocess.run(
            [sys.executable, "-c", PROGRAM, *map(str, words)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    for die in (6, 11):
        assert begin(die).returncode == -signal.SIGKILL
    ended = begin(0)
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert len(lines) == 4
    assert all(f"BudgetExhausted the budget of the {scope}" in line for line in lines)
    most = min(4 * of_run, of_group, of_all // 5 or 100)
    asked = (tmp_path / "log").stat().st_size
    assert asked <= most
    assert asked >= most - 2 * 4  # what was reserved at a kill, and may not have been sent, counts as spent
