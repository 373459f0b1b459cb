"""The same tools under names of your choosing."""

from __future__ import annotations

from dataclasses import dataclass

from typing_extensions import override

from runmgr.tools.types import AgentDepsT
from runmgr.toolsets.naming import NamingToolset

__all__ = ("RenamedToolset",)


@dataclass
class RenamedToolset(NamingToolset[AgentDepsT]):
    """Renames some tools; the others keep their names.

    Args:
        wrapped: the toolset inside.
        name_map: ``{new: old}``; names that ``wrapped`` does not have are ignored.
    """

    name_map: dict[str, str]

    @override
    def outer_name(self, name: str) -> str:
        for new, old in self.name_map.items():
            if old == name:
                return new
        return name

    @override
    def inner_name(self, name: str) -> str:
        return self.name_map.get(name, name)
