"""Watch a run and steer it: events, pause, a message in between, resume, cancel."""

import trio

from runmgr import Agent, RunCancelled, Supervisor, open_supervisor
from runmgr.records.events import RunEnded, RunNode, RunStateChanged

agent = Agent("sim:ttft=50ms,calls=5")


@agent.tool_plain
async def look_up(word: str) -> str:
    """Look something up."""
    return f"nothing about {word}"


def interesting(event: object) -> bool:
    """What the watcher wants to see. Called where the event happens: cheap, and nothing else."""
    return isinstance(event, RunNode | RunStateChanged | RunEnded)


async def watch(supervisor: Supervisor, task_status: trio.TaskStatus[None]) -> None:
    """Tell what happens, until the supervisor's block is left."""
    async with supervisor.subscribe(filter=interesting) as events:
        task_status.started()
        async for event in events:
            match event:
                case RunNode():
                    print(event.run_id, "is at", event.node)
                case RunStateChanged():
                    print(event.run_id, event.before, "->", event.after, f"({event.reason})")
                case RunEnded():
                    print(event.run_id, "has ended:", event.outcome.status)


async def main() -> None:
    async with trio.open_nursery() as nursery, open_supervisor(max_running=10) as supervisor:
        await nursery.start(watch, supervisor)

        handle = await supervisor.submit(agent, "What do we know of Atlantis?", run_id="atlantis")
        await trio.sleep(0.1)
        handle.pause()  # at its next node
        handle.send("Be brief.")  # before its next model request
        await trio.sleep(0.1)
        handle.resume()
        print((await handle.result()).output)

        other = await supervisor.submit(agent, "And of Lemuria?", run_id="lemuria")
        await trio.sleep(0.1)
        other.cancel("nobody asked")
        try:
            await other.result()
        except RunCancelled as cancelled:
            print(cancelled, "-", cancelled.outcome.usage.requests, "requests were paid")


trio.run(main)
