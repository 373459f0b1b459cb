"""A hand-off: the model of one agent chooses who answers, by calling an output function."""

import trio

from runmgr import Agent, RunContext

history = Agent(
    "openai:gpt-4o-mini", name="history", instructions="Answer questions on history in two sentences."
)
sums = Agent("openai:gpt-4o-mini", name="sums", instructions="Answer with the number only.")


async def ask_historian(ctx: RunContext, question: str) -> str:
    """Hand the question over to somebody who knows history."""
    return (await history.run(question, usage=ctx.usage)).output


async def ask_mathematician(ctx: RunContext, question: str) -> str:
    """Hand the question over to somebody who can calculate."""
    return (await sums.run(question, usage=ctx.usage)).output


desk = Agent(
    "openai:gpt-4o-mini",
    output_type=[ask_historian, ask_mathematician],
    instructions="Hand each question over to whoever can answer it.",
)


async def main() -> None:
    result = await desk.run("In which year did the Congress of Vienna begin?")
    print(result.output)
    print(result.usage().requests, "requests")


trio.run(main)
