"""`FinalResult`: what a run's `End` holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

from runmgr.output import OutputDataT

__all__ = ("FinalResult",)


@dataclass(repr=False, slots=True)
class FinalResult(Generic[OutputDataT]):
    """The output of a run, and where it came from.

    Args:
        output: the output.
        tool_name: the output tool that gave it; None where it was text or native output.
        tool_call_id: the id of that tool's call; None likewise.
    """

    output: OutputDataT
    tool_name: str | None = None
    tool_call_id: str | None = None

    def __repr__(self) -> str:
        more = f", tool_name={self.tool_name!r}" if self.tool_name is not None else ""
        if self.tool_call_id is not None:
            more += f", tool_call_id={self.tool_call_id!r}"
        return f"FinalResult(output={self.output!r}{more})"
