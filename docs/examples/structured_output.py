"""Output of a type of one's own, checked by pydantic and by a validator that can ask the model again."""

import trio
from pydantic import BaseModel, Field

from runmgr import Agent, ModelRetry


class Town(BaseModel):
    """A town and how many people live there."""

    name: str
    inhabitants: int = Field(ge=0)


agent = Agent("openai:gpt-4o-mini", output_type=Town, output_retries=2)


@agent.output_validator
def not_empty(town: Town) -> Town:
    """What the schema cannot say."""
    if not town.name.strip():
        raise ModelRetry("The name is empty: give the town's usual English name.")
    return town


async def main() -> None:
    result = await agent.run("The capital of Austria.")
    print(result.output.name, result.output.inhabitants)


trio.run(main)
