"""Work that is broken off and goes on where it stopped: finished runs are not run again.

Run it, press Ctrl-C, run it again. Here it stops itself half-way the first time, and goes on at once.
"""

import trio

from runmgr import Agent, RunSpec, open_supervisor

agent = Agent("sim:ttft=20ms")
specs = [RunSpec(prompt=f"Translate page {n}.", run_id=f"page-{n:03}") for n in range(100)]


async def work(stop_after: int | None = None) -> tuple[int, int]:
    """Run what is not finished yet; give how many outcomes there were, and how many of these are from before."""
    told = replayed = 0
    async with open_supervisor(max_running=10, journal="pages.sqlite", resume=True) as supervisor:
        async with supervisor.map(agent, specs) as outcomes:
            async for outcome in outcomes:
                told += 1
                replayed += outcome.replayed
                if told == stop_after:
                    supervisor.cancel("enough for today")
                    break
        print(told, "outcomes,", replayed, "from the journal,", supervisor.usage().requests, "requests now")
    return told, replayed


async def main() -> None:
    await work(stop_after=50)
    told, replayed = await work()
    assert told == 100
    assert replayed >= 50


trio.run(main)
