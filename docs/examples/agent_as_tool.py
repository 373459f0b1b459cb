"""An agent as another agent's tool: the inner run counts on the outer one's usage, and its limits."""

import trio

from runmgr import Agent, RunContext, UsageLimits

poet = Agent("openai:gpt-4o-mini", instructions="Write one couplet on the subject that you are given.")
editor = Agent("openai:gpt-4o-mini", instructions="Have three couplets written, then return the best one.")


@editor.tool
async def couplet(ctx: RunContext, subject: str) -> str:
    """Have a couplet written.

    Args:
        subject: what it is about.
    """
    result = await poet.run(subject, usage=ctx.usage)
    return result.output


async def main() -> None:
    limits = UsageLimits(request_limit=10, total_tokens_limit=5_000)
    result = await editor.run("Something about rivers.", usage_limits=limits)
    print(result.output)
    print(result.usage())  # of both agents


trio.run(main)
