"""How jobs travel: by import path where the other end can import them, else by cloudpickle; what can't is named.

Only trusted parties are on the two ends: unpickling runs code, as everything that an agent's tools do.
"""

from __future__ import annotations

import importlib
import importlib.util
import pickle
import sys
from typing import Any, NamedTuple, cast

import msgspec

from runmgr.exceptions import UserError
from runmgr.supervisor.jobs import AgentJob, GraphJob, Job

__all__ = ("Packer", "Work", "dumps", "loads", "unpack_kind", "unpack_work")

_PLAIN = (str, int, float, bool, type(None))
_MAIN = "__main__"
KNOWN_OPTIONS = 64
"""Sets of options that a worker remembers."""


class Work(NamedTuple):
    """What is special to one run."""

    prompt: Any = None
    options: dict[str, Any] | None = None
    node: Any = None
    state: Any = None
    deps: Any = None


class _Packed(msgspec.Struct, array_like=True):
    """A kind of job: where it is imported from, or itself."""

    is_agent: bool
    module: str = ""
    name: str = ""
    pickled: bytes = b""


def _dump(value: Any) -> bytes:
    try:
        import cloudpickle  # pyright: ignore[reportMissingTypeStubs]
    except ImportError:  # classes and functions of importable modules still go
        return pickle.dumps(value)
    return cloudpickle.dumps(value)  # pyright: ignore[reportUnknownMemberType]


def dumps(value: Any, what: str) -> bytes:
    """A value as bytes.

    Raises:
        UserError: it cannot travel; the message names ``what`` and, where that can be said, the part of it.
    """
    try:
        return _dump(value)
    except Exception as error:
        raise UserError(
            f"{what} cannot travel to a worker: {_culprit(value) or type(value).__name__}: {error}. Give plain data or "
            "something that can be imported there, and open connections, locks and files on the worker"
        ) from error


def loads(data: bytes) -> Any:
    """The opposite, for bytes from the other end."""
    return pickle.loads(data)  # noqa: S301  both ends are one program


def _culprit(value: Any) -> str | None:
    """The first part of a value that cannot be pickled, as a path."""
    parts: list[tuple[str, Any]]
    if isinstance(value, dict):
        parts = [(f"[{key!r}]", part) for key, part in cast("dict[Any, Any]", value).items()]
    elif isinstance(value, (list, tuple)):
        parts = [(f"[{at}]", part) for at, part in enumerate(cast("list[Any]", value))]
    elif hasattr(cast("object", value), "__dict__"):
        parts = [(f".{name}", part) for name, part in cast("dict[str, Any]", vars(value)).items()]
    else:
        return None
    for name, part in parts:
        try:
            _dump(part)
        except Exception:  # noqa: BLE001  whatever it is, this is the one
            return f"{cast('object', value).__class__.__name__}{name} ({type(part).__name__})"
    return None


def _home(value: Any) -> tuple[str, str] | None:
    """Where a value can be imported from, if it is a global of a module."""
    for name, module in list(sys.modules.items()):
        if name == _MAIN or name.startswith(("_", "runmgr")) or module is None:  # pyright: ignore[reportUnnecessaryComparison]
            continue
        try:
            found = next((attribute for attribute, held in vars(module).items() if held is value), None)
        except TypeError:
            continue
        if found is not None and importlib.util.find_spec(name) is not None:
            return name, found
    return None


class Packer:
    """Packs jobs for workers, each agent or graph once.

    Args:
        importable: whether workers can import what this process can: then globals of modules travel by their name.
    """

    def __init__(self, *, importable: bool = True) -> None:
        self._importable = importable
        self._kinds: dict[int, tuple[Any, int]] = {}
        self.kinds: list[bytes] = []
        """By number."""
        self._options: tuple[Any, bytes] | None = None

    def pack(self, job: Job) -> tuple[int, bytes]:
        """A job as the number of its kind and what is special to it.

        Raises:
            UserError: it cannot travel.
        """
        if isinstance(job, AgentJob):
            options = job.options
            if job.budget is not None or job.cache_salt is not None:
                options = {**(options or {}), "budget": job.budget, "cache_salt": job.cache_salt}
            return self._kind(job.agent, is_agent=True), self._work(job.prompt, options)
        if isinstance(job, GraphJob):
            work = Work(node=job.node, state=job.state, deps=job.deps)
            return self._kind(job.graph, is_agent=False), dumps(tuple(work), "the run's node, state or deps")
        raise UserError(f"a {type(job).__name__} cannot be carried out on a cluster")

    def _kind(self, target: Any, *, is_agent: bool) -> int:
        known = self._kinds.get(id(target))
        if known is not None:
            return known[1]
        home = _home(target) if self._importable else None
        if home is not None:
            packed = _Packed(is_agent, *home)
        else:
            name = getattr(target, "name", None)
            what = f"the {'agent' if is_agent else 'graph'} {name!r}" if name else repr(type(target).__name__)
            packed = _Packed(is_agent, pickled=dumps(target, what))
        number = len(self.kinds)
        self.kinds.append(msgspec.msgpack.encode(packed))
        self._kinds[id(target)] = (target, number)  # held: an id is of one object only while that lives
        return number

    def _work(self, prompt: Any, options: dict[str, Any] | None) -> bytes:
        packed = b""
        if options:
            last = self._options
            if last is not None and _same(last[0], options):
                packed = last[1]
            else:
                packed = dumps(options, "the run's options")
                self._options = (options, packed)
        if type(prompt) is str:
            return msgspec.msgpack.encode((prompt, packed))
        if type(prompt) in _PLAIN:
            return msgspec.msgpack.encode((None, packed, pickle.dumps(prompt)))
        return msgspec.msgpack.encode((None, packed, dumps(prompt, "the run's prompt")))


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether they hold the same objects."""
    return one is other or (
        one.keys() == other.keys() and all(other[name] is value for name, value in one.items())
    )


def unpack_kind(data: bytes) -> tuple[bool, Any]:
    """Whether it is an agent, and the agent or graph.

    Raises:
        Exception: whatever importing or unpickling it raises.
    """
    packed = msgspec.msgpack.decode(data, type=_Packed)
    if packed.module:
        return packed.is_agent, getattr(importlib.import_module(packed.module), packed.name)
    return packed.is_agent, loads(packed.pickled)


def unpack_work(data: bytes, *, is_agent: bool, known: dict[bytes, dict[str, Any]] | None = None) -> Work:
    """What `Packer.pack` packed.

    Args:
        data: the work.
        is_agent: whether it is an agent's.
        known: options that were unpacked lately, kept here: runs that had the same ones have the same ones again, so that a
            model among them is one object with its connections.

    Raises:
        Exception: whatever unpickling it raises.
    """
    if not is_agent:
        return Work(*loads(data))
    prompt, options, *pickled = cast("tuple[str | None, bytes]", msgspec.msgpack.decode(data))
    given: dict[str, Any] | None = None
    if options:
        given = None if known is None else known.get(options)
        if given is None:
            given = fresh = cast("dict[str, Any]", loads(options))
            if known is not None:
                if len(known) >= KNOWN_OPTIONS:
                    del known[next(iter(known))]
                known[options] = fresh
    return Work(loads(cast("bytes", pickled[0])) if pickled else prompt, given)
