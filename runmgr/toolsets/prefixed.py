"""The same tools, with a prefix before their names."""

from __future__ import annotations

from dataclasses import dataclass

from typing_extensions import override

from runmgr.tools.types import AgentDepsT
from runmgr.toolsets.naming import NamingToolset

__all__ = ("PrefixedToolset",)


@dataclass
class PrefixedToolset(NamingToolset[AgentDepsT]):
    """Names each tool ``{prefix}_{name}``, so that two toolsets can use the same names.

    Args:
        wrapped: the toolset inside.
        prefix: goes before each name, with an underscore between.
    """

    prefix: str

    @property
    @override
    def tool_name_conflict_hint(self) -> str:
        return "Change the `prefix` attribute to avoid name conflicts."

    @override
    def outer_name(self, name: str) -> str:
        return f"{self.prefix}_{name}"

    @override
    def inner_name(self, name: str) -> str:
        return name.removeprefix(f"{self.prefix}_")
