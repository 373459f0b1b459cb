"""What a supervisor gives a run: the doors its model requests pass, and a place to put its events.

A run without a host calls its model directly and owns no task, scope or channel of its own.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from runmgr.messages import ModelMessage, ModelResponse
    from runmgr.models import Model, StreamedResponse
    from runmgr.records.definitions import ModelRequestParameters
    from runmgr.settings import ModelSettings
    from runmgr.tools import RunContext

__all__ = ("RunHost", "current_host")


class RunHost(Protocol):
    """The owner of a run, as far as the run can see it; handed to ``Agent.iter(host=...)``.

    A hosted run is cancelled through its host's own cancel scope: the run opens none. What the run's tools run in turn
    (sub-agents) passes the same doors, as do agents in the nodes of a hosted graph: see `current_host`.
    """

    supervisor: Any
    """What ``RunContext.supervisor`` gives tools; None where there is none."""

    wants_events: bool
    """Whether anybody listens: ``emit`` is only called, and events are only built, while this is true."""

    async def request(
        self,
        model: Model,
        messages: list[ModelMessage],
        settings: ModelSettings | None,
        params: ModelRequestParameters,
    ) -> ModelResponse:
        """Send one model request through the doors (rate, budget, connection) and give back its response.

        Resends are the host's business, so it calls ``model.request_once``. Cancelling it leaves nothing in flight.
        """
        ...

    def request_stream(
        self,
        model: Model,
        messages: list[ModelMessage],
        settings: ModelSettings | None,
        params: ModelRequestParameters,
        run_context: RunContext[Any] | None,
    ) -> AbstractAsyncContextManager[StreamedResponse]:
        """The streaming form of ``request``: leaving the block closes the connection and settles the budget."""
        ...

    def emit(self, event: Any) -> None:
        """Take one stream event. Never blocks: lag is the subscriber's business, not the run's."""
        ...


current_host: ContextVar[RunHost | None] = ContextVar("runmgr_current_host", default=None)
"""Whose doors the requests pass of runs that are started here without a host of their own.

Set within hosted runs; a supervisor sets it for what else it runs. A budget is over everything or it is none.
"""
