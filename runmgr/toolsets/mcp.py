"""Tools of MCP servers (needs ``runmgr[mcp]``, the official SDK): as a subprocess, or over streamable HTTP.

A connection belongs to the task that opened it. ``async with server`` (or ``async with agent``) around many runs gives all
of them one connection; a run that finds none open by itself or by a task above it opens its own and closes it at its end.
So no connection outlives the block that opened it, and no run closes one that another still uses.
"""

from __future__ import annotations

import base64
import json
import os
import re
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias, cast

import trio
from typing_extensions import override

from runmgr.exceptions import ModelRetry, UserError
from runmgr.messages import BinaryContent
from runmgr.records.definitions import ToolDefinition
from runmgr.tools.context import RunContext
from runmgr.tools.tool import any_object
from runmgr.toolsets.abstract import AbstractToolset, ToolsetTool
from runmgr.toolsets.entered import EnteredByTask

if TYPE_CHECKING:
    from types import TracebackType

__all__ = (
    "CallToolFunc",
    "MCPServer",
    "MCPServerStdio",
    "MCPServerStreamableHTTP",
    "ProcessToolCallback",
    "ToolResult",
    "load_mcp_servers",
)

ToolResult: TypeAlias = Any
"""What a tool gave: text, JSON, ``BinaryContent``, or a list of these."""

CallToolFunc: TypeAlias = Callable[[str, dict[str, Any], dict[str, Any] | None], Awaitable[ToolResult]]
"""Calls a tool: name, arguments, metadata for the server."""

ProcessToolCallback: TypeAlias = Callable[
    [RunContext[Any], CallToolFunc, str, dict[str, Any]], Awaitable[ToolResult]
]
"""Stands between a run and the server: context, what calls the tool, name, arguments."""


@cache
def _sdk() -> Any:
    try:
        return import_module("mcp")
    except ImportError as error:
        raise ImportError("MCP servers need the official SDK: pip install 'runmgr[mcp]'") from error


class _Connection:
    """A connection, the task that owns it, and what is known of the server's tools."""

    __slots__ = ("client", "stack", "task", "tools")

    def __init__(self, client: Any, stack: AsyncExitStack, task: Any) -> None:
        self.client = client
        self.stack = stack
        self.task = task
        self.tools: list[Any] | None = None


class MCPServer(AbstractToolset[Any]):
    """A server's tools; see ``MCPServerStdio`` and ``MCPServerStreamableHTTP``.

    Args:
        tool_prefix: goes before each tool's name, with an underscore between.
        timeout: seconds to connect and say hello.
        read_timeout: seconds that an answer may take.
        process_tool_call: stands between runs and the server.
        max_retries: failures of a tool in a row before a run fails.
        cache_tools: ask for the list of tools once a connection, and again when the server says that it changed.
        id: a name that is unique among the agent's toolsets.
    """

    def __init__(
        self,
        *,
        tool_prefix: str | None = None,
        timeout: float = 5,
        read_timeout: float = 300,
        process_tool_call: ProcessToolCallback | None = None,
        max_retries: int = 1,
        cache_tools: bool = True,
        id: str | None = None,
    ) -> None:
        self.tool_prefix = tool_prefix
        self.timeout = timeout
        self.read_timeout = read_timeout
        self.process_tool_call = process_tool_call
        self.max_retries = max_retries
        self.cache_tools = cache_tools
        self._id = id
        self._open: list[_Connection] = []
        self._entered: EnteredByTask[_Connection | None] = EnteredByTask()

    @abstractmethod
    async def _transport(self, stack: AsyncExitStack) -> Any:
        """What the SDK's ``Client`` connects to; what must be closed after it goes on the stack."""
        raise NotImplementedError

    @property
    @override
    def id(self) -> str | None:
        return self._id

    @property
    @override
    def tool_name_conflict_hint(self) -> str:
        return "Set the `tool_prefix` attribute to avoid name conflicts."

    @property
    def client(self) -> Any:
        """The SDK's client of the connection that this task uses, for resources, prompts and instructions.

        Raises:
            UserError: there is none open.
        """
        connection = self._found()
        if connection is None:
            raise UserError(f"{self.label} is not connected: use `async with server:` around this")
        return connection.client

    @property
    def is_running(self) -> bool:
        """Whether this task, or one above it, has a connection open."""
        return self._found() is not None

    def _found(self) -> _Connection | None:
        if not self._open:
            return None
        task = trio.lowlevel.current_task()
        while True:
            for connection in self._open:
                if connection.task is task:
                    return connection
            if task.parent_nursery is None:
                return None
            task = task.parent_nursery.parent_task

    @override
    async def __aenter__(self) -> Self:
        """Connect, unless this task or one above it is connected. Cancelling leaves nothing open.

        Raises:
            TimeoutError: the server did not answer within ``timeout``.
            ConnectionError: it cannot be reached or started; says why.
        """
        opened = None if self._found() is not None else await self._connect()
        self._entered.push(opened)
        return self

    @override
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> bool | None:
        opened = self._entered.pop()
        if opened is None:
            return None
        self._open.remove(opened)
        # Without telling it of the error in the block: the SDK's task groups would wrap that in exception groups.
        await opened.stack.aclose()
        return None

    async def _connect(self) -> _Connection:
        # The scope stays open as long as the connection: a scope cannot end before what was opened in it.
        scope = trio.CancelScope(deadline=trio.current_time() + self.timeout)
        try:
            async with AsyncExitStack() as stack:
                stack.enter_context(scope)
                transport = await self._transport(stack)
                client = _sdk().Client(
                    transport, read_timeout_seconds=self.read_timeout, message_handler=self._heard
                )
                await stack.enter_async_context(client)
                scope.deadline = float("inf")
                connection = _Connection(client, stack.pop_all(), trio.lowlevel.current_task())
                self._open.append(connection)
                return connection
        except ImportError:
            raise
        except Exception as error:
            cause = error
            while isinstance(cause, ExceptionGroup):  # the SDK's task groups wrap what went wrong
                cause = cast("ExceptionGroup[Exception]", cause).exceptions[0]
            raise ConnectionError(f"{self.label} cannot be reached: {cause!r}") from error
        raise TimeoutError(f"{self.label} did not answer within {self.timeout} seconds")

    async def _heard(self, message: Any) -> None:
        if type(message).__name__ == "ToolListChangedNotification":
            for connection in self._open:
                connection.tools = None

    async def list_tools(self) -> list[Any]:
        """The server's tools, as the SDK has them; connects for the moment if need be."""
        connection = self._found()
        if connection is None:
            async with self:
                return await self.list_tools()
        if connection.tools is not None:
            return connection.tools
        tools: list[Any] = []
        cursor: str | None = None
        while True:
            page = await connection.client.list_tools(cursor=cursor)
            tools.extend(page.tools)
            cursor = page.next_cursor
            if cursor is None:
                break
        if self.cache_tools:
            connection.tools = tools
        return tools

    @override
    async def get_tools(self, ctx: RunContext[Any]) -> dict[str, ToolsetTool[Any]]:
        found: dict[str, ToolsetTool[Any]] = {}
        for tool in await self.list_tools():
            name = f"{self.tool_prefix}_{tool.name}" if self.tool_prefix else tool.name
            found[name] = ToolsetTool(
                toolset=self,
                tool_def=ToolDefinition(
                    name=name,
                    description=tool.description,
                    parameters_json_schema=tool.input_schema,
                    metadata={
                        "meta": tool.meta,
                        "annotations": tool.annotations.model_dump() if tool.annotations else None,
                        "output_schema": tool.output_schema,
                    },
                ),
                max_retries=self.max_retries,
                args_validator=any_object(),
            )
        return found

    @override
    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Any], tool: ToolsetTool[Any]
    ) -> ToolResult:
        if self.tool_prefix:
            name = name.removeprefix(f"{self.tool_prefix}_")
        if self.process_tool_call is not None:
            return await self.process_tool_call(ctx, self.direct_call_tool, name, tool_args)
        return await self.direct_call_tool(name, tool_args)

    async def direct_call_tool(
        self, name: str, args: dict[str, Any], metadata: dict[str, Any] | None = None
    ) -> ToolResult:
        """Call a tool by the server's own name for it; connects for the moment if need be.

        Args:
            name: without prefix.
            args: the arguments.
            metadata: the request's ``_meta``.

        Raises:
            ModelRetry: the tool, or the server, says that the call was wrong.
        """
        connection = self._found()
        if connection is None:
            async with self:
                return await self.direct_call_tool(name, args, metadata)
        try:
            result = await connection.client.call_tool(name, args, meta=metadata)
        except _sdk().MCPError as error:
            raise ModelRetry(str(error)) from error
        if result.is_error:
            raise ModelRetry("\n".join(str(_content(part)) for part in result.content))
        structured = result.structured_content
        if structured is not None and all(part.type == "text" for part in result.content):
            # The SDK's servers wrap what is no object.
            return structured["result"] if structured.keys() == {"result"} else structured
        parts = [_content(part) for part in result.content]
        return parts[0] if len(parts) == 1 else parts


def _content(part: Any) -> Any:
    """A content block as a tool's result."""
    match part.type:
        case "text":
            return _parsed(part.text)
        case "image" | "audio":
            return BinaryContent(data=base64.b64decode(part.data), media_type=part.mime_type)
        case "resource":
            resource = part.resource
            if hasattr(resource, "text"):
                return _parsed(resource.text)
            return BinaryContent(
                data=base64.b64decode(resource.blob),
                media_type=resource.mime_type or "application/octet-stream",
            )
        case _:
            return part.model_dump(mode="json", exclude_none=True)


def _parsed(text: str) -> Any:
    if text.startswith(("{", "[")):
        try:
            return json.loads(text)
        except ValueError:
            pass
    return text


class MCPServerStdio(MCPServer):
    """A server that is started as a subprocess, and ended with the connection.

    Args:
        command: the program.
        args: its arguments.
        env: its environment; None is a safe minimum of ours.
        cwd: where it runs.
        options: see ``MCPServer``.
    """

    def __init__(
        self,
        command: str,
        args: Sequence[str] = (),
        *,
        env: dict[str, str] | None = None,
        cwd: str | Path | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.command = command
        self.args = list(args)
        self.env = env
        self.cwd = cwd

    @override
    async def _transport(self, stack: AsyncExitStack) -> Any:
        return _sdk().StdioServerParameters(command=self.command, args=self.args, env=self.env, cwd=self.cwd)


class MCPServerStreamableHTTP(MCPServer):
    """A server at a URL.

    Args:
        url: its endpoint.
        headers: sent with each request.
        http_client: an ``httpx2.AsyncClient`` to use instead; it stays open.
        options: see ``MCPServer``.
    """

    def __init__(
        self, url: str, *, headers: dict[str, str] | None = None, http_client: Any = None, **options: Any
    ) -> None:
        if headers is not None and http_client is not None:
            raise UserError("Give either headers or http_client: a client has headers of its own")
        super().__init__(**options)
        self.url = url
        self.headers = headers
        self.http_client = http_client

    @override
    async def _transport(self, stack: AsyncExitStack) -> Any:
        http = import_module("mcp.client.streamable_http")
        client = self.http_client
        if client is None and self.headers is not None:
            client = http.create_mcp_http_client(headers=self.headers)
            await stack.enter_async_context(client)
        return http.streamable_http_client(self.url, http_client=client)


def load_mcp_servers(config_path: str | Path) -> list[MCPServerStdio | MCPServerStreamableHTTP]:
    """The servers of a JSON file: ``{"mcpServers": {NAME: {"command": ..., "args": ...} or {"url": ...}}}``.

    The name becomes the server's ``id`` and ``tool_prefix``. ``${VAR}`` and ``${VAR:-default}`` stand for environment
    variables.

    Raises:
        UserError: the file is not there or not of that form.
        ValueError: a variable without a default is not set.
    """
    path = Path(config_path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        entries: dict[str, Any] = data["mcpServers"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f'{path}: expected a JSON file with {{"mcpServers": {{...}}}}: {error!r}') from error
    servers: list[MCPServerStdio | MCPServerStreamableHTTP] = []
    for name, raw in entries.items():
        entry = _expanded(raw)
        if "url" in entry:
            servers.append(
                MCPServerStreamableHTTP(entry["url"], headers=entry.get("headers"), id=name, tool_prefix=name)
            )
        elif "command" in entry:
            servers.append(
                MCPServerStdio(
                    entry["command"],
                    entry.get("args", ()),
                    env=entry.get("env"),
                    cwd=entry.get("cwd"),
                    id=name,
                    tool_prefix=name,
                )
            )
        else:
            raise UserError(f"{path}: server {name!r} has neither 'command' nor 'url'")
    return servers


def _expanded(value: Any) -> Any:
    if isinstance(value, str):
        return re.sub(r"\$\{(\w+)(?::-([^}]*))?\}", _variable, value)
    if isinstance(value, list):
        return [_expanded(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, dict):
        return {key: _expanded(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType]
    return value


def _variable(match: re.Match[str]) -> str:
    name, default = match.groups()
    value = os.environ.get(name, default)
    if value is None:
        raise ValueError(f"Environment variable ${{{name}}} is not set and has no default: ${{{name}:-...}}")
    return value
