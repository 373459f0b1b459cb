"""Fan out and bring together: one run a part, under a supervisor, then one run over what they said."""

import trio

from runmgr import Agent, open_supervisor

reader = Agent("openai:gpt-4o-mini", instructions="Give the gist of the chapter in one sentence.")
author = Agent("openai:gpt-4o-mini", instructions="Make one paragraph of the sentences.")


async def main() -> None:
    chapters = [f"Chapter {n}: ..." for n in range(1, 13)]
    async with open_supervisor(max_running=4) as supervisor:
        async with supervisor.map(reader, chapters, ordered=True, group="chapters") as outcomes:
            gists = [
                outcome.output or f"(chapter {outcome.index + 1} is missing)" async for outcome in outcomes
            ]
        handle = await supervisor.submit(author, "\n".join(gists), group="summary")
        result = await handle.result()
        print(result.output)
        print(supervisor.usage(by="group"))


trio.run(main)
