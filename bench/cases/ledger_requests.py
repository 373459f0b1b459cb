"""Requests through a supervisor's doors to a model that answers at once: what each costs above asking the model itself."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from contextlib import asynccontextmanager
from types import SimpleNamespace

import trio

from runmgr import ModelResponse, TextPart, open_supervisor
from runmgr.graph import End
from runmgr.messages import ModelRequest, UserPromptPart
from runmgr.models.function import FunctionModel
from runmgr.records.budgets import Budget, Price, RateLimit
from runmgr.usage import RequestUsage

QUESTION = "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. How many in all?"
SETTINGS = {"max_tokens": 400}
MESSAGES = [ModelRequest(parts=[UserPromptPart(content=QUESTION)])]
ANSWER = ModelResponse(
    parts=[TextPart("72")], usage=RequestUsage(input_tokens=40, output_tokens=100), model_name="null"
)
ALL = {
    "budget": Budget(tokens=10**12, cost=10**9),
    "group_budgets": Budget(tokens=10**12),
    "run_budget": Budget(requests=10**9),
    "rate_limits": RateLimit(requests_per_minute=6e8, tokens_per_minute=6e11, max_in_flight=100),
    "prices": {"null": Price(input="0.15", output="0.60")},
}
FORMS = {
    "ledger": {},
    "ledger, budget": {"budget": ALL["budget"], "prices": ALL["prices"]},
    "ledger, three budgets": {
        name: ALL[name] for name in ("budget", "group_budgets", "run_budget", "prices")
    },
    "ledger, rate": {"rate_limits": ALL["rate_limits"]},
    "ledger, three budgets, rate": ALL,
}


class Null(FunctionModel):
    async def request_once(self, messages, settings, params):
        return ANSWER


async def nothing(messages, info):
    raise AssertionError


class Agent:
    """A run of one step, which is timed."""

    def __init__(self, step):
        self.step = step

    @asynccontextmanager
    async def iter(self, prompt=None, *, host=None, **options):
        run = SimpleNamespace(history_epoch=0, result=None, metadata=None, next_node=SimpleNamespace())
        run.ctx = SimpleNamespace(
            deps=SimpleNamespace(new_message_index=0, run_context=SimpleNamespace(abandoned_threads=()))
        )
        run.all_messages = list
        run.usage = lambda: SimpleNamespace(tool_calls=0)

        async def step(node):
            run.result = SimpleNamespace(output=await self.step(host))
            return End(None)

        run.next = step
        yield run


async def measure(options, batches, size):
    model = Null(nothing, model_name="null")

    async def step(host):
        through, bare = [], []
        for number in range(batches + 5):
            began = time.perf_counter()
            for _ in range(size):
                await host.request(model, MESSAGES, SETTINGS, None)
            middle = time.perf_counter()
            for _ in range(size):
                await model.request_once(MESSAGES, SETTINGS, None)
            if number >= 5:
                through.append((middle - began) / size)
                bare.append((time.perf_counter() - middle) / size)
        return [1e6 * (one - other) for one, other in zip(through, bare, strict=True)]

    async with open_supervisor(**options) as supervisor:
        each = await (await supervisor.submit(Agent(step), "q", group="g")).result()
        requests = supervisor.usage().requests
        assert requests == (batches + 5) * size, requests
        return each.output


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batches", type=int, default=1_000)
    parser.add_argument("--size", type=int, default=20)
    parser.add_argument("--form", choices=FORMS, help="this one alone, such as for counting its instructions")
    args = parser.parse_args()
    figures = {}
    for name, options in FORMS.items():
        if args.form not in {None, name}:
            continue
        each = sorted(trio.run(measure, options, args.batches, args.size))
        figures[name] = {
            "median_us": statistics.median(each),
            "p10_us": each[len(each) // 10],
            "p90_us": each[len(each) * 9 // 10],
        }
    print(json.dumps(figures))


main()
