"""A thousand runs under one supervisor, fifty at once, with their outcomes as they come."""

import trio

from runmgr import Agent, RunSpec, open_supervisor

agent = Agent("sim:ttft=lognormal(20ms,0.5),fail=2%")  # a simulated model: no key, no network


async def main() -> None:
    specs = (RunSpec(prompt=f"Summarise document {n}.", group=f"shelf {n % 3}") for n in range(1_000))
    async with open_supervisor(max_running=50) as supervisor:
        async with supervisor.map(agent, specs) as outcomes:
            async for outcome in outcomes:
                if not outcome.succeeded:
                    print(outcome.run_id, outcome.error)
                elif outcome.index % 100 == 0:
                    print(outcome.index, outcome.group, outcome.usage.output_tokens, "tokens")
        print(supervisor.usage())
        for group, usage in supervisor.usage(by="group").items():
            print(group, usage.requests, "requests", usage.total_tokens, "tokens")


trio.run(main)
