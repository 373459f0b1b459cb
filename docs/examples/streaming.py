"""Three ways to see an answer while it comes: text, events, and the nodes of a run."""

import trio

from runmgr import (
    Agent,
    AgentRunResultEvent,
    FunctionToolCallEvent,
    FunctionToolResultEvent,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
)

agent = Agent("openai:gpt-4o-mini", instructions="Answer in a short paragraph.")


@agent.tool_plain
async def water_level(river: str) -> str:
    """The water level of a river today."""
    return f"{river}: 2.41 m"


async def text() -> None:
    async with agent.run_stream("How high is the Danube?") as result:
        async for piece in result.stream_text(delta=True):
            print(piece, end="", flush=True)
    print("\n", result.usage())


async def events() -> None:
    async with agent.run_stream_events("How high is the Rhine?") as stream:
        async for event in stream:
            if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
                print(event.part.content, end="", flush=True)  # a text may begin with its part
            elif isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
                print(event.delta.content_delta, end="", flush=True)
            elif isinstance(event, FunctionToolCallEvent):
                print("calls", event.part.tool_name, event.part.args)
            elif isinstance(event, FunctionToolResultEvent):
                print("gives", event.result.content)
            elif isinstance(event, AgentRunResultEvent):
                print("\n", event.result.usage())


async def nodes() -> None:
    async with agent.iter("How high is the Elbe?") as run:
        async for node in run:
            if Agent.is_model_request_node(node):
                async with node.stream(run.ctx) as stream:
                    async for piece in stream.stream_text(delta=True):
                        print(piece, end="", flush=True)
    print("\n", run.usage())


async def main() -> None:
    await text()
    await events()
    await nodes()


trio.run(main)
