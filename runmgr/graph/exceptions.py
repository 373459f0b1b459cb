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
    """The graph is wrong as written; the message names the node.

    Args:
        message: as ``pydantic_graph`` words it.
        hint: how to mend it: a note (PEP 678), which tracebacks show below the message.
    """

    message: str

    def __init__(self, message: str, hint: str = "") -> None:
        self.message = message
        super().__init__(message)
        if hint:
            self.add_note(hint)


class GraphRuntimeError(RuntimeError):
    """The graph cannot go on; the message names the node or the value.

    Args:
        message: as ``pydantic_graph`` words it.
        hint: the way out: a note (PEP 678), which tracebacks show below the message.
    """

    message: str

    def __init__(self, message: str, hint: str = "") -> None:
        self.message = message
        super().__init__(message)
        if hint:
            self.add_note(hint)


class GraphNodeStatusError(GraphRuntimeError):
    """A node was asked to run that is running, has run or has failed.

    Args:
        actual_status: ``'running'``, ``'success'`` or ``'error'``.
        hint: the way out, as a note.
    """

    actual_status: str

    def __init__(self, actual_status: str, hint: str = "") -> None:
        self.actual_status = actual_status
        super().__init__(
            f"Incorrect snapshot status {actual_status!r}, must be 'created' or 'pending'.", hint
        )

    @classmethod
    def check(cls, status: str) -> None:
        """Raise unless ``status`` allows the node to run."""
        if status not in {"created", "pending"}:
            raise cls(status)
