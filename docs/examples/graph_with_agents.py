"""A graph of one's own with agents in its nodes: write, review, and write again until the review is content."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import trio
from pydantic import BaseModel

from runmgr import Agent, RunUsage
from runmgr.graph import BaseNode, Edge, End, Graph, GraphRunContext


class Review(BaseModel):
    """A verdict on a text."""

    good: bool
    advice: str


writer = Agent("openai:gpt-4o-mini", instructions="Write a product description of two sentences.")
critic = Agent("openai:gpt-4o-mini", output_type=Review, instructions="Judge the description.")


@dataclass
class Work:
    """What the nodes share."""

    subject: str
    drafts: list[str] = field(default_factory=list)
    usage: RunUsage = field(default_factory=RunUsage)


@dataclass
class Write(BaseNode[Work]):
    advice: str = ""

    async def run(self, ctx: GraphRunContext[Work]) -> Judge:
        prompt = f"{ctx.state.subject}\n{self.advice}".strip()
        result = await writer.run(prompt, usage=ctx.state.usage)
        ctx.state.drafts.append(result.output)
        return Judge(result.output)


@dataclass
class Judge(BaseNode[Work, None, str]):
    draft: str

    async def run(
        self, ctx: GraphRunContext[Work]
    ) -> Annotated[Write, Edge(label="not yet")] | Annotated[End[str], Edge(label="good, or the third")]:
        result = await critic.run(self.draft, usage=ctx.state.usage)
        if result.output.good or len(ctx.state.drafts) == 3:
            return End(self.draft)
        return Write(result.output.advice)


graph = Graph(nodes=[Write, Judge])


async def main() -> None:
    work = Work("a teapot that does not drip")
    result = await graph.run(Write(), state=work)
    print(result.output)
    print(len(work.drafts), "drafts,", work.usage.requests, "requests")


print(graph.mermaid_code(start_node=Write))
trio.run(main)
