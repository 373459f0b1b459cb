"""Which pools belong to the running ``trio.run``, and how they end with it.

Connections belong to a run of trio, not to a provider: a provider may be a module's global, used in one ``trio.run`` after
another, or in several threads at once. So a provider holds settings, and asks here for the pool that this run has for them.
Providers with the same origin and settings share one.

When ``trio.run`` ends, an instrument's ``after_run`` closes what is idle; it hooks nothing else, so it costs nothing while
the run lasts, and there is no system task.
"""

from __future__ import annotations

import ssl
from typing import NamedTuple

import trio
from trio.lowlevel import RunVar, add_instrument

from runmgr.models.http.connect import Dialer
from runmgr.models.http.origin import Origin
from runmgr.models.http.pool import Pool

__all__ = ("PoolKey", "existing_pool", "pool_of_run")


class PoolKey(NamedTuple):
    """What two clients must agree on to share connections."""

    origin: Origin
    context: ssl.SSLContext | None
    connect_timeout: float
    limit: int
    expiry: float


_pools: RunVar[dict[PoolKey, Pool]] = RunVar("runmgr.http.pools")


class _CloseAtEnd(trio.abc.Instrument):
    def __init__(self, pools: dict[PoolKey, Pool]) -> None:
        self._pools = pools

    def after_run(self) -> None:
        for pool in self._pools.values():
            pool.close_idle()


def pool_of_run(key: PoolKey) -> Pool:
    """The running ``trio.run``'s pool for these settings, made when first asked for. Outside of trio: RuntimeError."""
    try:
        pools = _pools.get()
    except LookupError:
        pools = dict[PoolKey, Pool]()
        _pools.set(pools)
        add_instrument(_CloseAtEnd(pools))
    pool = pools.get(key)
    if pool is None:
        pool = pools[key] = Pool(Dialer(key.origin, key.context, key.connect_timeout), key.limit, key.expiry)
    return pool


def existing_pool(key: PoolKey) -> Pool | None:
    """As ``pool_of_run``, but None where there is none, outside of trio too."""
    try:
        return _pools.get().get(key)
    except (LookupError, RuntimeError):
        return None
