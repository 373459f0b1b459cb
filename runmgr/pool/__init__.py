"""Runs for programs that do not run trio: a supervisor on a thread of its own, fed from threads or from asyncio.

- `RunPool`: for threads, shaped like a ``concurrent.futures.Executor``
- `AsyncioRunPool`: the same for asyncio, from ``RunPool(...).as_asyncio()``
- `as_worker`: for programs that do run trio, a stage of a pipeline
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import PoolFull
from .futures import RunFuture
from .pool import RunPool
from .results import Results
from .streams import RunStream
from .worker import as_worker

if TYPE_CHECKING:
    from .asyncio_pool import AsyncioRunPool
    from .asyncio_results import AsyncioResults, AsyncioRunStream

__all__ = (
    "AsyncioResults",
    "AsyncioRunPool",
    "AsyncioRunStream",
    "PoolFull",
    "Results",
    "RunFuture",
    "RunPool",
    "RunStream",
    "as_worker",
)


def __getattr__(name: str) -> Any:
    # asyncio takes a while to import, and programs on threads do without it.
    if name == "AsyncioRunPool":
        from .asyncio_pool import AsyncioRunPool

        return AsyncioRunPool
    if name in {"AsyncioResults", "AsyncioRunStream"}:
        from . import asyncio_results

        return getattr(asyncio_results, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
