"""Toolsets of MCP servers, under the name that Pydantic AI gives their module."""

from __future__ import annotations

from runmgr.toolsets.mcp import (
    CallToolFunc,
    MCPServer,
    MCPServerStdio,
    MCPServerStreamableHTTP,
    ProcessToolCallback,
    ToolResult,
    load_mcp_servers,
)

__all__ = (
    "CallToolFunc",
    "MCPServer",
    "MCPServerStdio",
    "MCPServerStreamableHTTP",
    "ProcessToolCallback",
    "ToolResult",
    "load_mcp_servers",
)
