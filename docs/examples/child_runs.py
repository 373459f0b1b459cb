"""Runs that submit runs: a tool maps a task's parts to child runs, and an output function hands the result over to another."""

import trio

from runmgr import Agent, RunContext, open_supervisor

CHAPTERS = [f"Chapter {n}: ..." for n in range(1, 9)]

reader = Agent(
    "openai:gpt-4o-mini", name="reader", instructions="Give the gist of the chapter in one sentence."
)
critic = Agent("openai:gpt-4o-mini", name="critic", instructions="Review the book in one paragraph.")


async def hand_to_critic(ctx: RunContext, summary: str) -> str:
    """Hand the summary over to the critic, who answers instead."""
    handle = await ctx.supervisor.submit(critic, summary, group="critics")
    return (await handle.result()).output


librarian = Agent(
    "openai:gpt-4o-mini",
    name="librarian",
    output_type=hand_to_critic,
    instructions="Have the book read, summarise what the readers say, and hand that over.",
)


@librarian.tool
async def have_it_read(ctx: RunContext) -> list[str]:
    """Have every chapter of the book read, each by a reader."""
    async with ctx.supervisor.map(reader, CHAPTERS, ordered=True, group="readers", timeout=60) as outcomes:
        return [outcome.output or "(could not be read)" async for outcome in outcomes]


async def main() -> None:
    # Three places: the librarian gives its own up while it waits for those whom it asked.
    async with open_supervisor(max_running=3) as supervisor:
        handle = await supervisor.submit(librarian, "What do you think of the book?", group="librarians")
        outcome = await handle.outcome()
        print(outcome.status, outcome.output)
        print(outcome.usage.requests, "requests, with those of the child runs")
        for group, usage in supervisor.usage(by="group").items():
            print(f"{group}: {usage.requests} requests")


trio.run(main)
