"""MCP servers as toolsets: a real subprocess, and a real server in this process."""

import json
import socket
import sys
from subprocess import DEVNULL
from typing import Any

import pytest
import trio

from runmgr.agent import Agent
from runmgr.exceptions import ModelRetry, RunCancelled, UserError
from runmgr.messages import BinaryContent, ModelResponse, TextPart, ToolCallPart
from runmgr.models.function import FunctionModel
from runmgr.toolsets import CombinedToolset

pytest.importorskip("mcp")

from runmgr.mcp import (  # noqa: E402
    MCPServer,
    MCPServerStdio,
    MCPServerStreamableHTTP,
    load_mcp_servers,
)

SCRIPT = '''
import sys
from mcp.server import MCPServer
from mcp_types import ImageContent, TextContent
server = MCPServer("test", instructions="Add things.")

@server.tool()
def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b

@server.tool()
def table() -> dict[str, int]:
    return {"a": 1, "b": 2}

@server.tool()
def fails() -> str:
    raise ValueError("out of order")

@server.tool(structured_output=False)
def picture() -> list[ImageContent | TextContent]:
    return [TextContent(type="text", text="look"), ImageContent(type="image", data="aGk=", mime_type="image/png")]

if __name__ == "__main__":
    server.run()
'''


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "server.py"
    path.write_text(SCRIPT)
    return str(path)


class InProcess(MCPServer):
    """Counts its connections."""

    connections = 0

    async def _transport(self, stack) -> Any:
        namespace: dict[str, Any] = {"__name__": "server"}
        exec(SCRIPT, namespace)
        self.connections += 1
        return namespace["server"]


async def test_stdio(script, make_context):
    server = MCPServerStdio(sys.executable, [script], tool_prefix="math", timeout=30, id="m")
    assert server.label == "MCPServerStdio 'm'"
    with trio.fail_after(60):
        async with server:
            assert server.client.instructions == "Add things."
            ctx = make_context()
            tools = await server.get_tools(ctx)
            assert list(tools) == ["math_add", "math_table", "math_fails", "math_picture"]
            tool_def = tools["math_add"].tool_def
            assert tool_def.description == "Add two numbers."
            assert set(tool_def.parameters_json_schema["properties"]) == {"a", "b"}
            assert await server.call_tool("math_add", {"a": 2, "b": 3}, ctx, tools["math_add"]) == 5
    assert not server.is_running


async def test_results():
    server = InProcess()
    async with server:
        assert await server.direct_call_tool("add", {"a": 1}) == 2
        assert await server.direct_call_tool("table", {}) == {"a": 1, "b": 2}
        assert await server.direct_call_tool("picture", {}) == [
            "look",
            BinaryContent(data=b"hi", media_type="image/png"),
        ]
        with pytest.raises(ModelRetry, match="Error executing tool fails"):
            await server.direct_call_tool("fails", {})
        with pytest.raises(ModelRetry):
            await server.direct_call_tool("add", {"a": "x"})
        with pytest.raises(ModelRetry):
            await server.direct_call_tool("nope", {})


async def test_errors_in_the_block_come_out_bare():
    server = InProcess()
    with pytest.raises(ZeroDivisionError):
        async with server:
            1 / 0  # noqa: B018
    assert not server.is_running


async def test_process_tool_call(make_context):
    async def process(ctx, call_tool, name, args):
        return {"deps": ctx.deps, "result": await call_tool(name, args, {"who": "me"})}

    server = InProcess(process_tool_call=process)
    async with server:
        ctx = make_context(deps=7)
        tool = (await server.get_tools(ctx))["add"]
        assert await server.call_tool("add", {"a": 1}, ctx, tool) == {"deps": 7, "result": 2}


async def test_connects_for_the_moment_if_need_be():
    server = InProcess()
    assert [tool.name for tool in await server.list_tools()] == ["add", "table", "fails", "picture"]
    assert await server.direct_call_tool("add", {"a": 1}) == 2
    assert server.connections == 2
    with pytest.raises(UserError, match="is not connected"):
        server.client  # noqa: B018


async def test_tasks_below_share_a_connection_and_others_have_their_own():
    server = InProcess()

    async def run():
        async with CombinedToolset([server]):
            assert await server.direct_call_tool("add", {"a": 1}) == 2

    async with server, trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(run)
    assert server.connections == 1
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(run)
    assert server.connections == 4
    assert not server.is_running


async def test_a_server_that_says_nothing(make_context):
    server = MCPServerStdio(sys.executable, ["-c", "import time; time.sleep(60)"], timeout=0.3)
    with trio.fail_after(30):
        with pytest.raises(TimeoutError, match="did not answer within 0.3 seconds"):
            async with server:
                pass
    assert not server.is_running


async def test_a_server_that_is_not_there():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        server = MCPServerStreamableHTTP(f"http://127.0.0.1:{nobody.getsockname()[1]}/mcp", timeout=30)
        with pytest.raises(ConnectionError, match="MCPServerStreamableHTTP cannot be reached: ConnectError"):
            async with server:
                pass
    with pytest.raises(ConnectionError, match="MCPServerStdio cannot be reached: FileNotFoundError"):
        async with MCPServerStdio("no-such-program-anywhere"):
            pass


async def test_streamable_http(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = tmp_path / "server.py"
    path.write_text(SCRIPT.replace("server.run()", f'server.run(transport="streamable-http", port={port})'))
    process = await trio.lowlevel.open_process([sys.executable, str(path)], stdout=DEVNULL, stderr=DEVNULL)
    try:
        with trio.fail_after(60):
            while True:
                try:
                    await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
                    break
                except OSError:
                    await trio.sleep(0.05)
            async with MCPServerStreamableHTTP(
                f"http://127.0.0.1:{port}/mcp", headers={"x-own": "1"}
            ) as server:
                assert await server.direct_call_tool("add", {"a": 1}) == 2
    finally:
        process.kill()
        await process.wait()


async def test_cancelling_closes_the_connection(script):
    server = MCPServerStdio(sys.executable, [script], timeout=30)
    with trio.fail_after(60):
        with trio.CancelScope() as scope:
            async with server:
                scope.cancel()
                await trio.sleep_forever()
    assert scope.cancelled_caught
    assert not server.is_running


def test_loading_from_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("WHERE", "here")
    path = tmp_path / "servers.json"
    path.write_text(
        json.dumps(
            {
                "mcpServers": {
                    "one": {"command": "${PROGRAM:-python3}", "args": ["-m", "${WHERE}"], "env": {"A": "1"}},
                    "two": {"url": "http://${WHERE}/mcp", "headers": {"x": "y"}},
                }
            }
        )
    )
    one, two = load_mcp_servers(path)
    assert isinstance(one, MCPServerStdio)
    assert (one.command, one.args, one.env, one.id, one.tool_prefix) == (
        "python3",
        ["-m", "here"],
        {"A": "1"},
        "one",
        "one",
    )
    assert isinstance(two, MCPServerStreamableHTTP)
    assert (two.url, two.headers) == ("http://here/mcp", {"x": "y"})
    path.write_text('{"mcpServers": {"one": {"command": "${NOT_SET_ANYWHERE}"}}}')
    with pytest.raises(ValueError, match="NOT_SET_ANYWHERE"):
        load_mcp_servers(path)
    path.write_text('{"mcpServers": {"one": {}}}')
    with pytest.raises(UserError, match="server 'one' has neither 'command' nor 'url'"):
        load_mcp_servers(path)
    with pytest.raises(UserError, match="expected a JSON file"):
        load_mcp_servers(tmp_path / "nowhere.json")


async def test_a_run_opens_a_server_and_closes_it_at_its_end():
    """Also one that is cancelled; within the agent's own block all runs share a connection."""

    def model(messages, info):
        if len(messages) > 1:
            return ModelResponse([TextPart("done")])
        return ModelResponse([ToolCallPart("add", {"a": n}, f"c{n}") for n in range(3)])

    server = InProcess()
    agent = Agent(FunctionModel(model), toolsets=[server])
    result = await agent.run("?")
    assert [part.content for part in result.all_messages()[2].parts] == [1, 2, 3]
    assert (server.connections, server.is_running) == (1, False)

    async with agent.iter("?") as run:
        await run.next(await run.next(run.next_node))
        run.cancel("enough")
        with pytest.raises(RunCancelled):
            await run.next(run.next_node)
        assert server.is_running
    assert (server.connections, server.is_running) == (2, False)

    async with agent, trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(agent.run, "?")
    assert (server.connections, server.is_running) == (3, False)
