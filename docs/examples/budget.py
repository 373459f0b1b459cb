"""A budget over all runs together, which no number of runs at once can pass, and a rate."""

import trio

from runmgr import Agent, Budget, RateLimit, open_supervisor

# With max_tokens there is an upper bound of what a request can use, so the budget is hard.
agent = Agent("sim:ttft=20ms,tokens=uniform(20,60)", model_settings={"max_tokens": 40})


async def main() -> None:
    budget = Budget(tokens=20_000)
    rate = RateLimit(requests_per_minute=60_000, max_in_flight=20)
    done = stopped = 0
    async with open_supervisor(max_running=50, budget=budget, rate_limits=rate) as supervisor:
        async with supervisor.map(agent, (f"Describe town {n}." for n in range(1_000))) as outcomes:
            async for outcome in outcomes:
                if outcome.succeeded:
                    done += 1
                elif outcome.error.type == "BudgetExhausted":
                    if not stopped:
                        print(outcome.error.message)
                    stopped += 1
        used = supervisor.usage().total_tokens
        print(done, "runs used", used, "tokens;", stopped, "did not fit")
        print(supervisor.snapshot().budget)
    assert used <= 20_000


trio.run(main)
