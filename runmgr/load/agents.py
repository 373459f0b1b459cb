"""Whole runs of an agent as load: real tools, the model's own branching, limits and resends as in production.

Where a run's time went is measured from outside: a request's at the door through which the run sends it (waiting for a rate limit and
resends included), the tools' as the time in the node that calls them, for as long as the run goes on after it. What is left is overhead.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

import attrs
import trio

from runmgr.exceptions import SupervisorClosed
from runmgr.graph import End
from runmgr.load.record import Record
from runmgr.load.state import LoadState
from runmgr.load.words import Lot

if TYPE_CHECKING:
    from runmgr.supervisor import Supervisor

__all__ = ("AgentTarget",)


_LOOK_SECONDS = 0.02


class _Timing:
    """Where one run's time went."""

    __slots__ = ("began", "model", "tool", "tool_at", "turns")

    def __init__(self) -> None:
        self.began: float | None = None
        self.turns = 0
        self.model = 0.0
        self.tool = 0.0
        self.tool_at: float | None = None


class _Host:
    """A run's host, its requests timed."""

    def __init__(self, host: Any, timing: _Timing) -> None:
        self._host = host
        self._timing = timing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._host, name)

    async def request(self, model: Any, messages: Any, settings: Any, params: Any) -> Any:
        timing = self._timing
        timing.turns += 1
        began = trio.current_time()
        try:
            return await self._host.request(model, messages, settings, params)
        finally:
            timing.model += trio.current_time() - began

    @asynccontextmanager
    async def request_stream(self, *arguments: Any) -> AsyncGenerator[Any]:
        timing = self._timing
        timing.turns += 1
        began = trio.current_time()
        try:
            async with self._host.request_stream(*arguments) as stream:
                yield stream
        finally:
            timing.model += trio.current_time() - began


class _Run:
    """A run, its tools timed."""

    def __init__(self, run: Any, timing: _Timing) -> None:
        self._run = run
        self._timing = timing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._run, name)

    async def next(self, node: Any) -> Any:
        return await self._timed(self._run.next, node)

    async def _timed(self, step: Callable[[Any], Awaitable[Any]], node: Any) -> Any:
        if type(node).__name__ != "CallToolsNode":
            return await step(node)
        began = trio.current_time()
        after: Any = await step(node)
        if not isinstance(after, End):
            timing = self._timing
            timing.tool += trio.current_time() - began
            if timing.tool_at is None:
                timing.tool_at = began
        return after  # pyright: ignore[reportUnknownVariableType]


class _Agent:
    """An agent whose runs are timed."""

    def __init__(self, agent: Any, timings: dict[str, _Timing]) -> None:
        self._agent = agent
        self._timings = timings

    def __getattr__(self, name: str) -> Any:
        return getattr(self._agent, name)

    def iter(
        self, *arguments: Any, host: Any, run_id: str, **options: Any
    ) -> AbstractAsyncContextManager[Any]:
        return self._iter(self._timings[run_id], arguments, host, run_id, options)

    @asynccontextmanager
    async def _iter(
        self, timing: _Timing, arguments: tuple[Any, ...], host: Any, run_id: str, options: dict[str, Any]
    ) -> AsyncGenerator[Any]:
        if timing.began is None:
            timing.began = trio.current_time()
        async with self._agent.iter(*arguments, host=_Host(host, timing), run_id=run_id, **options) as run:
            yield _Run(run, timing)


@attrs.frozen
class AgentEntry:
    """One of the agents of a load, with what it is run on.

    Args:
        name: as it is told in the results.
        weight: how often it is drawn.
        agent: the agent.
        prompts: what to run it on, in order, round and round.
    """

    name: str
    weight: float
    agent: Any
    prompts: Sequence[str]


class AgentTarget:
    """Runs agents.

    Args:
        supervisor: what runs them; with room for everything that the load has in flight.
        entries: the agents.
        seed: of the lot by which each run's is drawn.
        model: instead of the agent's own; None leaves that.
        timeout: seconds that one run may take.
        elsewhere: the supervisor's runs are worked on by a cluster: a run's times are as its worker had them, and where they
            went within it is not known.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        entries: Sequence[AgentEntry],
        *,
        seed: int = 0,
        model: Any = None,
        timeout: float | None = None,
        elsewhere: bool = False,
    ) -> None:
        self._supervisor = supervisor
        self._elsewhere = elsewhere
        self._wall = supervisor.snapshot().at - trio.current_time()
        self._timings: dict[str, _Timing] = {}
        self._entries = entries
        self._agents: list[Any] = [
            entry.agent if elsewhere else _Agent(entry.agent, self._timings) for entry in entries
        ]
        self._lot = Lot([entry.weight for entry in entries], seed)
        self._options: dict[str, Any] = {} if model is None else {"model": model}
        self._timeout = timeout

    async def ready(self, workers: int) -> None:
        """Wait until so many workers take runs: what they need to start is not the agents' time.

        Raises:
            NoWorkers: out of the supervisor's block, where they never do.
        """
        while sum(worker.ready for worker in self._supervisor.snapshot().workers.values()) < workers:  # noqa: ASYNC110
            await trio.sleep(_LOOK_SECONDS)

    def prepared(self, index: int) -> Any:
        """Which agent, and the prompt of its place."""
        number = self._lot.of(index) if len(self._entries) > 1 else 0
        prompts = self._entries[number].prompts
        return number, prompts[index % len(prompts)]

    def following(self, record: Record, prepared: Any) -> None:  # noqa: ARG002  (the protocol's)
        """A run is followed by nothing."""
        return

    async def send(self, record: Record, prepared: Any, state: LoadState) -> None:
        """One run. A failure is written into the record; cancelling cancels the run."""
        run_id = f"load-{record.index}"
        number: int
        number, prompt = prepared
        if len(self._entries) > 1:
            record.source = self._entries[number].name
        timing = self._timings[run_id] = _Timing()
        try:
            handle = await self._supervisor.submit(
                self._agents[number], prompt, run_id=run_id, timeout=self._timeout, **self._options
            )
            try:
                outcome = await handle.outcome()
            except trio.Cancelled:
                handle.cancel("the load was stopped")
                raise
        except SupervisorClosed as error:
            record.fail("SupervisorClosed", str(error))
            return
        finally:
            del self._timings[run_id]
        now = trio.current_time()
        if self._elsewhere:
            now = min(now, outcome.finished_at - self._wall)
            if outcome.started_at is not None:
                timing.began = outcome.started_at - self._wall
        record.finished = now - state.started
        if timing.began is not None:
            record.sent = timing.began - state.started
        if timing.tool_at is not None:
            record.tool_at = timing.tool_at - state.started
        usage = outcome.usage
        record.counted = "usage"
        if usage is not None:
            record.input_tokens = usage.input_tokens
            record.output_tokens = usage.output_tokens
            if usage.cache_read_tokens:
                record.cached_tokens = usage.cache_read_tokens
        whole = now - (timing.began if timing.began is not None else now)
        record.run = {
            "turns": timing.turns if not self._elsewhere or usage is None else usage.requests,
            "tool_calls": usage.tool_calls if usage is not None else 0,
            "attempts": outcome.attempts,
        }
        if not self._elsewhere:
            record.run |= {
                "model_seconds": round(timing.model, 6),
                "tool_seconds": round(timing.tool, 6),
                "overhead_seconds": round(max(0.0, whole - timing.model - timing.tool), 6),
            }
        if outcome.succeeded:
            record.status = "succeeded"
        elif outcome.error is not None:
            record.fail(outcome.error.type, outcome.error.message)
        else:
            record.fail("cancelled", "the run was cancelled")
