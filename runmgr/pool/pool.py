"""`RunPool`: a supervisor for programs that do not run trio."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from typing_extensions import Unpack

from runmgr.exceptions import UserError
from runmgr.supervisor import open_supervisor

from .bells import ThreadBell
from .engine import Engine
from .errors import PoolFull
from .futures import FutureJob, RunFuture
from .results import Batch, Results
from .streams import BUFFER, RunStream

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from runmgr.agent import AbstractAgent, AgentRunResult
    from runmgr.records.budgets import Budget, RateLimit
    from runmgr.records.outcomes import RunOutcome
    from runmgr.records.snapshots import SupervisorSnapshot
    from runmgr.supervisor import Supervisor
    from runmgr.telemetry import Metrics
    from runmgr.usage import RunUsage

    from .asyncio_pool import AsyncioRunPool
    from .options import SupervisorOptions

__all__ = ("RunPool",)

OutputT = TypeVar("OutputT")
T = TypeVar("T")

_PARAMETERS = inspect.signature(open_supervisor).parameters


class RunPool(Generic[OutputT]):
    """A supervisor on a thread of its own, fed from any thread; shaped like a ``concurrent.futures.Executor``.

    ``with RunPool(agent) as pool`` starts the thread, and waits at the end until every run has ended; an exception in the
    block cancels them first. Without a block the thread starts with the first submission, and `shutdown` ends it.

    Args:
        agent: what to run, where a submission does not name another.
        name: how its thread is called; a number is added.
        metrics: what it does is recorded there.
        options: the arguments of `open_supervisor`: ``max_running``, ``max_queued``, ``journal``, ``budget``, ...
    """

    def __init__(
        self,
        agent: AbstractAgent[Any, OutputT] | None = None,
        *,
        name: str = "runmgr-pool",
        metrics: Metrics | None = None,
        **options: Unpack[SupervisorOptions],
    ) -> None:
        for option in options:
            if option not in _PARAMETERS:
                known = ", ".join(_PARAMETERS)
                raise TypeError(f"RunPool has no option {option!r}; it takes agent, name, metrics, {known}")
        self._agent: Any = agent
        running = options.get("max_running")
        if running is None:
            cluster: Any = options.get("cluster")
            running = 100 if cluster is None else cluster.places
        queued: int = options.get("max_queued", _PARAMETERS["max_queued"].default)
        for option, value, least in (("max_running", running, 1), ("max_queued", queued, 0)):
            if not isinstance(value, int) or value < least:
                raise UserError(f"RunPool({option}={value!r}): must be a whole number of at least {least}")
        self._window = min(2 * running, running + queued)
        self._engine = Engine(dict(options), running + queued, name, metrics)
        weakref.finalize(self, self._engine.close).atexit = False

    # ---------------------------------------------------------------- submitting

    def submit(
        self, prompt: Any = None, *, agent: AbstractAgent[Any, Any] | None = None, **options: Any
    ) -> RunFuture[OutputT]:
        """Submit a run; blocks while the queue is full. Does not wait for the run.

        The run sees the caller's context variables. Cancelling the future cancels the run.

        Args:
            prompt: text or a list of content parts.
            agent: another agent than the pool's.
            options: as in `Supervisor.submit`: ``run_id``, ``group``, ``priority``, ``timeout``, ``deadline``,
                ``metadata``, ``deps``, ``model``, ``message_history``, ... A mistake in them is the future's exception.

        Raises:
            SupervisorClosed: the pool was shut down, or is in another process.
        """
        engine = self._begin()
        engine.take_place(options.get("group"))
        return self._submit(engine, agent, prompt, options)

    def submit_nowait(
        self, prompt: Any = None, *, agent: AbstractAgent[Any, Any] | None = None, **options: Any
    ) -> RunFuture[OutputT]:
        """As `submit`, at once or not at all.

        Raises:
            PoolFull: the queue is full; also a ``queue.Full``, and a ``trio.WouldBlock``.
            SupervisorClosed: the pool was shut down, or is in another process.
        """
        engine = self._begin()
        if not engine.room.take_nowait():
            raise PoolFull(
                f"{engine.name} is full: {engine.room.capacity} runs (max_running + max_queued) have not ended"
            )
        return self._submit(engine, agent, prompt, options)

    def _submit(self, engine: Engine, agent: Any, prompt: Any, options: dict[str, Any]) -> RunFuture[Any]:
        try:
            job = FutureJob(engine, self._agent_for(agent), prompt, options)
            engine.post(job.begin)
        except BaseException:
            engine.room.put_back()
            raise
        return job.future

    def map(
        self,
        items: Iterable[Any],
        *,
        ordered: bool = True,
        window: int | None = None,
        agent: AbstractAgent[Any, Any] | None = None,
        **options: Any,
    ) -> Results[AgentRunResult[OutputT]]:
        """Run every item; iterate what this gives for the results.

        Items are pulled lazily, in the iterating thread. The first run that fails is raised, as ``Executor.map`` does, and
        cancels the others; use `outcomes` for runs that may fail.

        Args:
            items: prompts or `RunSpec` values.
            ordered: give results in the order of the items instead of as they come.
            window: how many runs may be unfinished, or ended and not taken, at once; twice ``max_running`` when left out.
            agent: another agent than the pool's.
            options: for every item that does not say otherwise, as in `submit`.
        """
        return self._map(items, window, agent, options, ordered=ordered, outcomes=False)

    def outcomes(
        self,
        items: Iterable[Any],
        *,
        ordered: bool = False,
        window: int | None = None,
        agent: AbstractAgent[Any, Any] | None = None,
        **options: Any,
    ) -> Results[RunOutcome]:
        """As `map`, but gives a `RunOutcome` for every run, whether it succeeded or not, as they come."""
        return self._map(items, window, agent, options, ordered=ordered, outcomes=True)

    def _map(
        self,
        items: Any,
        window: int | None,
        agent: Any,
        options: dict[str, Any],
        *,
        ordered: bool,
        outcomes: bool,
    ) -> Results[Any]:
        self._begin()
        bell = ThreadBell()
        return Results(
            self._batch(bell, window, agent, options, ordered=ordered), bell, items, outcomes=outcomes
        )

    def _batch(
        self, bell: Any, window: int | None, agent: Any, options: dict[str, Any], *, ordered: bool
    ) -> Batch:
        if window is not None and window < 1:
            raise UserError(f"window={window!r}: at least one run must be allowed at once")
        agent = self._agent if agent is None else agent
        return Batch(self._engine, agent, options, window or self._window, bell, ordered=ordered)

    def stream(
        self,
        prompt: Any = None,
        *,
        agent: AbstractAgent[Any, Any] | None = None,
        buffer: int = BUFFER,
        **options: Any,
    ) -> RunStream:
        """Run one prompt and read its events while they happen: iterate what this gives, best as a ``with`` block.

        Args:
            prompt: text or a list of content parts.
            agent: another agent than the pool's.
            buffer: events that may wait to be read; beyond it the run stands still.
            options: as in `submit`.
        """
        return RunStream(self._begin(), self._agent_for(agent), prompt, options, buffer)

    def _agent_for(self, agent: Any) -> Any:
        agent = self._agent if agent is None else agent
        if agent is None:
            raise UserError("this pool has no agent of its own: RunPool(agent), or submit(prompt, agent=...)")
        return agent

    def _begin(self) -> Engine:
        engine = self._engine
        engine.check_open()
        if not engine.opened.done():
            engine.start()
        return engine

    # ---------------------------------------------------------------- watching

    def ask(self, question: Callable[[Supervisor], T], *, timeout: float | None = 1.0) -> T:
        """Call a function with the supervisor, in the pool's thread, and wait for what it returns.

        Args:
            question: must be quick and must not wait: every run waits for it.
            timeout: seconds; None waits for ever.

        Raises:
            TimeoutError: the pool's thread did not answer: something blocks it.
            UserError: the pool has not been started.
            SupervisorClosed: its thread has ended.
        """
        answer = self._engine.ask(question)
        try:
            return answer.result(timeout)
        except FutureTimeoutError:
            if answer.done() and not answer.cancelled():
                raise
            answer.cancel()
            raise TimeoutError(
                f"{self._engine.name} did not answer within {timeout:g} s: something blocks its thread, such as an "
                "async tool that does blocking work (make it a plain 'def')"
            ) from None

    def snapshot(self, *, timeout: float | None = 1.0) -> SupervisorSnapshot:
        """How the pool stands, for health checks: see `Supervisor.snapshot`. Blocks for the pool's thread.

        Raises:
            TimeoutError: it did not answer within ``timeout`` seconds.
            SupervisorClosed: the pool has ended.
        """
        return self.ask(_snapshot, timeout=timeout)

    @overload
    def usage(self, by: None = None) -> RunUsage: ...
    @overload
    def usage(self, by: Literal["model", "group", "run"]) -> dict[str, RunUsage]: ...
    def usage(self, by: Literal["model", "group", "run"] | None = None) -> Any:
        """What was used so far: see `Supervisor.usage`."""
        return self.ask(lambda supervisor: supervisor.usage(by))

    # ---------------------------------------------------------------- tenants

    def set_group(
        self,
        group: str,
        *,
        weight: float | None = None,
        max_running: int | None = None,
        rate: RateLimit | None = None,
        budget: Budget | None = None,
    ) -> None:
        """Make a group, or change one while its runs go on. What is left out stays as it is. `snapshot` shows it from now on.

        Starts the pool, and blocks for its thread.

        Args:
            group: its name, as submissions give it.
            weight: its share of room and places relative to other groups'; 1 where nothing is said.
            max_running: places that it may hold at once.
            rate: how fast its runs together may ask all models together.
            budget: what its runs together may spend; what they spent so far counts.

        Raises:
            ValueError: the weight is not a number over 0.
            UserError: ``max_running`` is no whole number, or below 0.
            TimeoutError: the pool's thread did not answer.
        """
        self._begin()
        self.ask(
            partial(
                self._engine.set_group,
                group,
                weight=weight,
                max_running=max_running,
                rate=rate,
                budget=budget,
            )
        )

    def drop_group(self, group: str, *, cancel: str | None = None) -> bool:
        """Forget a group as soon as none of its runs is left: see `Supervisor.drop_group`. Does not wait for them.

        Args:
            group: its name.
            cancel: a reason: its runs are cancelled.

        Returns:
            Whether it is forgotten already.
        """
        return self.ask(partial(self._engine.drop_group, group, cancel))

    # ---------------------------------------------------------------- its end

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more submissions, and end when every run has.

        Args:
            wait: block until then.
            cancel_futures: cancel the runs that wait in the queue; those that run go on. `cancel` ends them too.

        Raises:
            TooManyFailures: with ``wait``: see ``max_failures``.
            JournalError: with ``wait``: the journal could not be written.
        """
        engine = self._engine
        if cancel_futures and engine.started:
            engine.closed = engine.closed or "it was shut down"
            engine.post(engine.withdraw_queued)
        engine.close()
        if wait:
            engine.join()
            engine.raise_error()

    def cancel(self, reason: str = "the pool was cancelled") -> None:
        """Take no more submissions and cancel every run; in the journal they stay open, to be resumed.

        Returns at once; `shutdown` waits.

        Args:
            reason: becomes the outcomes' error message.
        """
        self._engine.cancel(reason)

    def __enter__(self) -> Self:
        self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        engine = self._engine
        if kind is not None:
            engine.cancel(f"the block raised {kind.__name__}")
        else:
            engine.close()
        try:
            engine.join()
        except BaseException as interrupt:
            engine.cancel(f"interrupted by {type(interrupt).__name__}")
            engine.join()
            raise
        if kind is None:
            engine.raise_error()

    def as_asyncio(self) -> AsyncioRunPool[OutputT]:
        """The pool for an asyncio program: ``async with RunPool(agent).as_asyncio() as pool``."""
        from .asyncio_pool import AsyncioRunPool

        return AsyncioRunPool(self)

    def __repr__(self) -> str:
        engine = self._engine
        state = "not started" if not engine.started else engine.closed or "open"
        return f"<RunPool {engine.name}: {state}>"


def _snapshot(supervisor: Supervisor) -> SupervisorSnapshot:
    return supervisor.snapshot()
