# ruff: noqa: T201  what it prints is what it is for
"""A program of its own: runs over Ray with a journal. Prints a line when it has begun, and what it comes to.

python program.py JOURNAL RUNS [ADDRESS]
"""

import os
import signal
import sys

import trio
from agents import shouter

from runmgr import RunSpec, open_supervisor
from runmgr.cluster import RayCluster
from runmgr.exceptions import SupervisorClosed


async def main(journal, runs, address="local"):
    cluster = RayCluster(address=address, workers=2, per_worker=500, silence=4.0)
    distinct, replayed = set(), 0
    async with open_supervisor(cluster=cluster, journal=journal, resume=True) as sup:
        async with trio.open_nursery() as nursery:

            async def on_signal():
                with trio.open_signal_receiver(signal.SIGINT) as signals:
                    async for _ in signals:
                        sup.cancel("interrupted")
                        return

            nursery.start_soon(on_signal)
            specs = (RunSpec(prompt=f"p{n}", run_id=f"r{n}") for n in range(runs))
            try:
                async with sup.map(shouter, specs) as outcomes:
                    async for outcome in outcomes:
                        if outcome.succeeded:
                            assert outcome.run_id not in distinct
                            assert outcome.output == "P" + outcome.run_id[1:]
                            assert outcome.usage.requests == 1
                            distinct.add(outcome.run_id)
                            replayed += outcome.replayed
                        if len(distinct) == 1:
                            print("begun", os.getpid(), flush=True)
            except SupervisorClosed:
                print("interrupted", len(distinct), flush=True)
            nursery.cancel_scope.cancel()
    print("done", len(distinct), replayed, flush=True)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
