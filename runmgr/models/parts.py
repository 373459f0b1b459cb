"""How a model that is made of models asks them: by itself, or through whoever stands at each one's door."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from runmgr.messages import ModelMessage, ModelResponse
    from runmgr.models.base import Model
    from runmgr.models.stream import StreamedResponse
    from runmgr.records.definitions import ModelRequestParameters
    from runmgr.settings import ModelSettings

__all__ = ("Asker", "asker")


class Asker(Protocol):
    """Asks the parts of a model, each through its own rate, budget and breaker; resends are not the parts' business."""

    async def request(
        self,
        model: Model,
        messages: list[ModelMessage],
        settings: ModelSettings | None,
        params: ModelRequestParameters,
        *,
        last: bool,
    ) -> ModelResponse:
        """Ask one of them; raises as its ``request_once``.

        Args:
            model: the part.
            messages: as for ``Model.request``.
            settings: likewise.
            params: likewise.
            last: there is no other to ask: it is waited for where it cannot be asked now. Otherwise that fails at once.
        """
        ...

    def request_stream(
        self,
        model: Model,
        messages: list[ModelMessage],
        settings: ModelSettings | None,
        params: ModelRequestParameters,
        run_context: Any,
        *,
        last: bool,
    ) -> AbstractAsyncContextManager[StreamedResponse]:
        """The streaming form."""
        ...


asker: ContextVar[Asker | None] = ContextVar("runmgr_asker", default=None)
"""Set by a supervisor while it asks a model that is made of others."""
