"""What goes wrong with a graph: when it is built, and when it is run.

The names and bases are those of ``pydantic_graph``::

    TypeError
    └── GraphSetupError             the graph, as written, cannot work
    RuntimeError
    └── GraphRuntimeError           a step, a start node or a saved run cannot be used
        └── GraphNodeStatusError    a node that is running, done or failed was asked to run
"""

from __future__ import annotations

__all__ = ("GraphNodeStatusError", "GraphRuntimeError", "GraphSetupError")


class GraphSetupError(TypeError):
    """The graph is wrong as written; the message names the node and says how to mend it."""

    message: str

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(message)


class GraphRuntimeError(RuntimeError):
    """The graph cannot go on; the message names the node or the value."""

    message: str

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(message)


class GraphNodeStatusError(GraphRuntimeError):
    """A node was asked to run that is running, has run or has failed.

    Args:
        actual_status: ``'running'``, ``'success'`` or ``'error'``.
        hint: the way out, appended to the message.
    """

    actual_status: str

    def __init__(self, actual_status: str, hint: str = "") -> None:
        self.actual_status = actual_status
        super().__init__(
            f"Incorrect snapshot status {actual_status!r}, must be 'created' or 'pending'."
            + (f" {hint}" if hint else "")
        )

    @classmethod
    def check(cls, status: str) -> None:
        """Raise unless ``status`` allows the node to run."""
        if status not in {"created", "pending"}:
            raise cls(status)
