"""A supervisor with all that belongs to it, from start to end through faults and crashes, under one seed.

The supervisor, the agent's loop, the accounting and the journal are the real ones. Simulated are the provider (its answers,
faults and prices), time, the users, the subscribers, and the death of the process. Nothing else may differ between two runs of one
seed: what happened is hashed, and the hash is compared.
"""

from __future__ import annotations

import hashlib
import random
import tempfile
import threading
from collections.abc import Callable, Hashable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import attrs
import msgspec
import trio

from runmgr.concurrency import Overflow
from runmgr.exceptions import JournalError, RunEnded, UserError
from runmgr.journal import JournalReader, open_journal
from runmgr.journal.disk import current_disk
from runmgr.messages import ModelMessagesTypeAdapter
from runmgr.models import Model
from runmgr.models.retry import RetryPolicy
from runmgr.records.budgets import Budget
from runmgr.records.outcomes import RunOutcome, RunState
from runmgr.supervisor import RunSpec, Supervisor, open_supervisor
from runmgr.tools.threads import tool_threads
from runmgr.usage import RunUsage

from .book import Book, Sums, Violation
from .damage import damage, save
from .faults import Faults
from .life import Crash, DiskFault, Life, SimulatedDisk
from .provider import NetworkedProvider, SimulatedProvider
from .schedule import run_in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Generator

    from runmgr.tools.context import RunContext

__all__ = ("Report", "Simulation", "simulate")

INVARIANTS = (
    "no run lost",
    "none finished twice",
    "no paid response paid again",
    "usage exact",
    "budget never exceeded",
    "nothing alive at the end",
    "history valid",
)
NOON = 1_767_268_800.0
"""When a simulation begins, in Unix seconds."""
FOREVER = 1_000_000.0
"""Seconds of virtual time: what has not ended by then hangs."""
MOST_LIVES = 50


@attrs.frozen
class Report:
    """A simulation that went through, with every invariant held after each of its processes."""

    seed: int
    runs: int
    processes: int
    """1 + crashes + failures of the disk + stops by the budget."""
    crashes: int
    requests: int
    """What the provider charged, in all processes."""
    tokens: int
    disk_faults: int
    """Processes that a disk ended which was full, failing or read-only."""
    damaged: int
    """How often the journal was damaged, and saved as far as it could be."""
    lost: int
    """Answers that were paid for, lost in a crash and asked for again."""
    statuses: dict[str, int]
    digest: str
    """Of everything that was seen: equal for equal seeds."""


@attrs.define(eq=False)
class Simulation:
    """One world under one seed.

    Args:
        seed: of everything that is drawn.
        faults: what goes wrong; drawn when left out.
        max_running: places of the supervisor.
        options: further arguments of `open_supervisor`.
        budget: tokens that may be spent; raised by half whenever it has stopped runs.
        network: ask over a simulated network, byte by byte, instead of by calls.
    """

    seed: int
    faults: Faults
    max_running: int = 20
    options: dict[str, Any] = attrs.field(factory=dict[str, Any])
    budget: int | None = None
    network: bool = False
    rng: random.Random = attrs.field(init=False)
    book: Book = attrs.field(factory=Book, init=False)
    life: Life | None = attrs.field(default=None, init=False)
    tools_running: int = attrs.field(default=0, init=False)
    _processes: int = attrs.field(default=0, init=False)
    _crashes: int = attrs.field(default=0, init=False)
    _disk_faults: int = attrs.field(default=0, init=False)
    _damaged: int = attrs.field(default=0, init=False)
    _spent_is_known: bool = attrs.field(default=True, init=False)
    _digest: Any = attrs.field(factory=lambda: hashlib.blake2b(digest_size=8), init=False)
    _refused: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    # ---------------------------------------------------------------- what tools tell

    def acting(self, ctx: RunContext[Any]) -> None:
        """To be called by a tool as it begins: its response must be in the journal by now."""
        self.tools_running += 1
        if self.life is not None and not self.life.dead and ctx.run_id is not None:
            self.book.acted(ctx.run_id)
            self.saw("tool", ctx.run_id, ctx.tool_call_id)

    def acted(self) -> None:
        """To be called by a tool as it ends."""
        self.tools_running -= 1

    def saw(self, *what: object) -> None:
        """Something happened that must happen again under the same seed."""
        self._digest.update(repr(what).encode())

    # ---------------------------------------------------------------- the whole

    def run(
        self,
        agent: Any,
        items: Sequence[str | RunSpec],
        *,
        answers: Model | str,
        check: Callable[[RunSpec, RunOutcome], None] | None = None,
    ) -> Report:
        """Run all items to their end, through as many processes as it takes. Not within a ``trio.run``.

        Raises:
            Violation: an invariant did not hold.
        """
        specs = [_spec(number, item) for number, item in enumerate(items)]
        ids = {spec.run_id for spec in specs}
        if len(ids) != len(specs):
            raise UserError("simulate: two items have the same run_id")
        kind = NetworkedProvider if self.network else SimulatedProvider
        provider = kind(answers, self.faults, self.book, self.rng)
        crashes = self.faults.crashes
        threads = set(
            threading.enumerate()
        )  # trio's idle worker threads of earlier runs among them: they may go, none may come
        with tempfile.TemporaryDirectory(prefix="runmgr-", dir=_memory()) as directory:
            path = Path(directory) / "journal.sqlite"
            while True:
                self._processes += 1
                if self._processes > MOST_LIVES:
                    raise Violation(
                        f"not done after {MOST_LIVES} processes: {len(ids - self.book.outcomes.keys())} runs left"
                    )
                life = self.life = Life(
                    self._processes - 1,
                    self._draw_crash() if crashes > 0 else None,
                    self._draw_disk_fault() if crashes > 0 else None,
                )
                crashes -= 1
                run_in_virtual_time(
                    self._live, life, agent, specs, provider, path, check, seed=self.rng.getrandbits(32)
                )
                if self.book.first is not None:
                    raise self.book.first
                self._after(life, provider, path)
                self._crashes += life.dead
                self._disk_faults += life.failed
                if crashes > 0 and path.exists() and self.rng.random() < self.faults.damage:
                    self._damage(path)
                if self.book.outcomes.keys() >= ids:
                    break
                if self._refused:
                    assert self.budget is not None
                    self.budget += self.budget // 2
                    self._refused = False
            self._at_the_end(path, ids)
        if left := set(threading.enumerate()) - threads:
            raise Violation(f"threads are left: {left}")
        outcomes = self.book.outcomes
        statuses = [outcome.status.value for outcome in outcomes.values()]
        charged = self.book.charged
        return Report(
            seed=self.seed,
            runs=len(specs),
            processes=self._processes,
            crashes=self._crashes,
            requests=charged.requests,
            tokens=charged.tokens,
            disk_faults=self._disk_faults,
            damaged=self._damaged,
            lost=self.book.paid_twice,
            statuses={status: statuses.count(status) for status in sorted(set(statuses))},
            digest=self._digest.hexdigest(),
        )

    def _draw_crash(self) -> Crash:
        rng = self.rng
        if rng.random() < 0.3:
            return Crash(at=rng.random() * rng.choice((1, 10, 60)))
        return Crash(write=int(rng.random() ** 2 * 200) + 1, when=rng.choice(("before", "after")))

    def _draw_disk_fault(self) -> DiskFault | None:
        rng = self.rng
        if rng.random() >= self.faults.disk:
            return None
        return DiskFault(int(rng.random() ** 2 * 200) + 1, rng.choice(("full", "failing", "read-only")))

    def _damage(self, path: Path) -> None:
        """Damage the journal, save what can be, and hold what is left, and what is named, against what was told."""
        done = damage(path, self.rng)
        self.saw("damage", done)
        if done is None:
            return
        told = dict(self.book.outcomes)

        def right(outcome: RunOutcome) -> None:
            before = told.get(outcome.run_id)
            if before is not None and (before.status, before.output, before.usage) != (
                outcome.status, outcome.output, outcome.usage,
            ):  # fmt: skip
                raise Violation(f"a damaged journal ({done}) says {outcome}; told was {before}")

        saved = save(path, right)
        self._damaged += 1
        self._spent_is_known = self._spent_is_known and not any(
            line.startswith("meta") for line in saved.lost
        )
        with open_journal(path) as journal:
            lost = self.book.damaged(journal.outcome, lambda run_id: _paid(journal, run_id))
            unnamed = [run_id for run_id in lost if run_id not in saved.reopened and journal.look_up(run_id)]
        if unnamed or (lost and not saved.lost):
            raise Violation(f"a damaged journal ({done}) has lost {unnamed or lost}, and names {saved}")

    # ---------------------------------------------------------------- one process

    async def _live(
        self,
        life: Life,
        agent: Any,
        specs: Sequence[RunSpec],
        provider: SimulatedProvider,
        path: Path,
        check: Callable[[RunSpec, RunOutcome], None] | None,
    ) -> None:
        rng = self.rng
        tool_threads().inline = True
        tasks = trio.lowlevel.current_statistics().tasks_living
        token = current_disk.set(SimulatedDisk(life))
        provider.enter(life)
        offset = NOON + 100_000.0 * life.number
        options: dict[str, Any] = {
            "max_running": self.max_running,
            "max_queued": rng.choice((1, 10, 1000)),
            "retries": RetryPolicy(max_retries=rng.choice((2, 8))),
            "journal": path,
            "journal_thread": False,
            "resume": True,
            "budget": None if self.budget is None else Budget(tokens=self.budget),
            "rng": random.Random(rng.getrandbits(32)),
            "wall_clock": lambda: offset,
            **self.options,
        }
        limit = trio.move_on_after(FOREVER)
        try:
            with limit:
                with life.scope:
                    async with open_supervisor(**options) as sup:
                        await self._work(life, sup, agent, specs, provider, check)
            if life.failed and not life.dead and not limit.cancel_called:
                raise Violation(f"seed {self.seed}: the disk failed ({life.disk}), and nobody was told")
        except JournalError as error:
            if not life.dead and (life.disk is None or not life.failed or not _says(life.disk, error)):
                raise
        except BaseException:
            if not life.dead:  # what a process says as it is taken down, nobody hears
                raise
        finally:
            current_disk.reset(token)
        if limit.cancelled_caught:
            raise Violation(f"seed {self.seed}: the supervisor hangs in process {life.number}")
        left = trio.lowlevel.current_statistics().tasks_living - tasks
        if left:
            raise Violation(f"seed {self.seed}: {left} tasks are alive after the supervisor's block")

    async def _work(
        self,
        life: Life,
        sup: Supervisor,
        agent: Any,
        specs: Sequence[RunSpec],
        provider: SimulatedProvider,
        check: Callable[[RunSpec, RunOutcome], None] | None,
    ) -> None:
        by_id = {spec.run_id: spec for spec in specs}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._users, life, sup, len(specs))
            nursery.start_soon(self._subscriber, life, sup)
            if life.crash is not None and life.crash.at is not None:
                nursery.start_soon(self._kill, life, life.crash.at)
            async with sup.map(agent, specs, model=provider) as outcomes:
                async for outcome in outcomes:
                    if life.dead:
                        await trio.sleep_forever()
                    try:
                        self._told(by_id[outcome.run_id], outcome, check)
                    except Exception as error:  # noqa: BLE001  raised bare, when this process has been taken down
                        self.book.first = self.book.first or error
                        life.die()
            nursery.cancel_scope.cancel()
        if not life.dead:
            used, told = Sums.of_usage(sup.usage()), self.book.told_now
            if used != told:
                raise Violation(
                    f"seed {self.seed}: the supervisor says that it used {used}, the provider {told}"
                )
            for by in ("model", "group", "run"):
                parts = sum(sup.usage(by=by).values(), RunUsage())
                if Sums.of_usage(parts) != told:
                    raise Violation(
                        f"seed {self.seed}: its usage by {by} adds up to {parts}, the provider says {told}"
                    )

    def _told(
        self, spec: RunSpec, outcome: RunOutcome, check: Callable[[RunSpec, RunOutcome], None] | None
    ) -> None:
        self.saw("told", outcome.run_id, outcome.status, outcome.finished_at)
        error = None if outcome.error is None else outcome.error.type
        if error == "BudgetExhausted":
            self._refused = True
            return
        if self.life is not None and self.life.failed and outcome.status is RunState.CANCELLED:
            return  # nothing more can be written: it is open, and goes on in the next process
        if error == "JournalError":
            raise Violation(f"run {outcome.run_id}: {outcome.error}, and the disk is well")
        self.book.ended(outcome)
        if check is not None:
            check(spec, outcome)

    async def _kill(self, life: Life, seconds: float) -> None:
        await trio.sleep(seconds)
        life.die()

    # ---------------------------------------------------------------- the people

    async def _users(self, life: Life, sup: Supervisor, runs: int) -> None:
        rng, faults = self.rng, self.faults
        acts = [
            what
            for what, rate in (("cancel", faults.cancel), ("pause", faults.pause), ("send", faults.send))
            for _ in range(int(rate * runs / (1 + faults.crashes)))
        ]
        rng.shuffle(acts)
        pace = rng.choice((0.01, 0.1))
        async with trio.open_nursery() as nursery:
            for what in acts:
                await trio.sleep(rng.expovariate(1.0) * pace)
                oldest = list(sup._runtime.live.values())[: 2 * self.max_running]
                if life.dead or not oldest:
                    continue
                handle = rng.choice(oldest)
                self.saw(what, handle.run_id, trio.current_time())
                try:
                    if what == "cancel":
                        handle.cancel("a simulated user had enough")
                    elif what == "send":
                        handle.send("and please be brief")
                    else:
                        handle.pause()
                        nursery.start_soon(self._let_go_on, handle)
                except (RunEnded, trio.WouldBlock):
                    continue

    async def _let_go_on(self, handle: Any) -> None:
        await trio.sleep(self.rng.random() * 10)
        try:
            handle.resume()
        except RunEnded:
            return

    async def _subscriber(self, life: Life, sup: Supervisor) -> None:
        rng = self.rng
        if rng.random() < 0.3:
            return
        overflow: Overflow = rng.choice(("drop_oldest", "coalesce", "wait"))
        slow = rng.choice((0.0, 0.001, 0.05))
        async with sup.subscribe(
            buffer=rng.choice((1, 10, 1000)),
            overflow=overflow,
            key=_kind,
            streams=rng.random() < 0.5,
        ) as events:
            async for _ in events:
                await trio.sleep(slow)
                if life.dead:
                    return

    # ---------------------------------------------------------------- what must hold

    def _after(self, life: Life, provider: SimulatedProvider, path: Path) -> None:
        if provider.in_flight or self.tools_running:
            raise Violation(f"{provider.in_flight} requests and {self.tools_running} tools are still running")
        self.saw("process", life.number, life.dead, self.book.charged)
        if self.budget is not None and self._spent_is_known and self.book.charged.tokens > self.budget:
            raise Violation(f"{self.book.charged.tokens} tokens were charged, the budget is {self.budget}")
        with _reader(path) as journal:
            if life.dead or life.failed:
                self.book.crashed(
                    lambda run_id: None if journal is None else journal.outcome(run_id),
                    lambda run_id: None if journal is None else _paid(journal, run_id),
                    at_once=self.max_running,
                )
            else:
                self.book.told_now = Sums()

    def _at_the_end(self, path: Path, ids: set[str | None]) -> None:
        outcomes = self.book.outcomes
        with open_journal(path) as journal:
            counts = journal.counts()
            if counts.get("open") or sum(counts.values()) != len(ids):
                raise Violation(f"the journal counts {counts}, of {len(ids)} runs")
            for kept in journal.outcomes(messages=True):
                told = outcomes[kept.run_id]
                data = ModelMessagesTypeAdapter.dump_json(kept.messages)
                # As JSON: what a provider adds in `provider_details` is plain data, and a date in there is text when it comes back.
                if (kept.status, kept.output, kept.usage, data) != (
                    told.status, told.output, told.usage, ModelMessagesTypeAdapter.dump_json(told.messages),
                ):  # fmt: skip
                    raise Violation(f"run {kept.run_id}: was told as {told}, the journal has {kept}")
                if ModelMessagesTypeAdapter.validate_json(data) != kept.messages:
                    raise Violation(f"run {kept.run_id}: its history does not survive JSON")
            spent = Sums.of_usage(_usage_of(journal.meta("spent")))
        least = Sums.of_charges(charge for charges in self.book.kept.values() for charge in charges)
        most = self.book.charged
        if self._spent_is_known and not (
            least.requests <= spent.requests <= most.requests and least.tokens <= spent.tokens <= most.tokens
        ):
            raise Violation(
                f"the journal says that {spent} was spent; its runs used {least}, the provider charged {most}"
            )


def simulate(
    agent: Any = None,
    items: Sequence[str | RunSpec] | None = None,
    *,
    seed: int,
    answers: Model | str | None = None,
    faults: Faults | None = None,
    runs: int = 200,
    check: Callable[[RunSpec, RunOutcome], None] | None = None,
    network: bool | None = None,
    **options: Any,
) -> Report:
    """Run an agent over items in a simulated world, and hold the supervisor to its promises. Blocks; call it outside trio.

    Args:
        agent: the agent to test; the built-in one when left out.
        items: prompts, or `RunSpec` values.
        seed: what goes wrong where. The same seed gives the same simulation.
        answers: an in-process model that answers when nothing goes wrong; the agent's own model when left out.
        faults: how much goes wrong; drawn from the seed when left out.
        runs: how many, of the built-in agent.
        check: called with each item and its first outcome; raise where it is wrong.
        network: ask over a simulated network, through the real HTTP client, as OpenAI's chat completions; False: by calls, for answers
            with more than text and tool calls. Drawn from the seed when left out.
        options: of `open_supervisor`; ``max_running`` too.

    Raises:
        Violation: an invariant did not hold: a bug of runmgr, or of a model or toolset of yours that keeps something of its own.
    """
    rng = random.Random(seed ^ 0x5EED)
    faults = faults or Faults.drawn(rng)
    max_running = options.pop("max_running", None) or rng.choice((1, 5, 20, 100))
    drawn = rng.random() < 0.5
    simulation = Simulation(seed, faults, max_running, options, network=drawn if network is None else network)
    if agent is not None:
        if items is None:
            raise UserError("simulate: give the items to run the agent over")
        return simulation.run(agent, items, answers=answers or agent.model, check=check)
    from .scenario import answers as built_in_answers
    from .scenario import built_in_agent, built_in_items, check_output, draw_options

    draw_options(simulation, rng, runs)
    return simulation.run(
        built_in_agent(simulation), built_in_items(runs, rng), answers=built_in_answers(), check=check_output
    )


def _spec(number: int, item: str | RunSpec) -> RunSpec:
    spec = item if isinstance(item, RunSpec) else RunSpec(prompt=item)
    return spec if spec.run_id is not None else attrs.evolve(spec, run_id=f"r{number:05d}")


def _says(fault: DiskFault, error: JournalError) -> bool:
    """Whether the error says what is wrong with the disk."""
    words = {"full": "the disk is full", "failing": "failing", "read-only": "writable"}
    return words[fault.kind] in str(error)


def _kind(event: Any) -> Hashable:
    return cast("Hashable", type(event))


@contextmanager
def _reader(path: Path) -> Generator[JournalReader | None]:
    if not path.exists():
        yield None
        return
    with open_journal(path) as journal:
        yield journal


def _paid(journal: JournalReader, run_id: str) -> RunUsage | None:
    found = journal.look_up(run_id)
    if found is None or isinstance(found[1], RunOutcome):
        return None
    return found[1].paid


def _usage_of(spent: dict[str, Any] | None) -> RunUsage:
    return RunUsage() if spent is None else msgspec.convert(spent["usage"], RunUsage)


def _memory() -> str | None:
    """A directory in memory, where there is one: a simulation needs no disk that outlives it."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108
