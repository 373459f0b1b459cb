"""Generated programs: whatever is done to a supervisor, in whatever order, what must hold holds after every step."""

from __future__ import annotations

import contextlib
import gc
import os
import tempfile
import warnings
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from runmgr.agent import Agent
from runmgr.exceptions import ModelHTTPError, RunEnded, SupervisorClosed
from runmgr.journal import open_journal
from runmgr.messages import ModelResponse, TextPart, ToolCallPart
from runmgr.models.function import FunctionModel
from runmgr.records.budgets import RestartPolicy
from runmgr.records.events import RunAdmitted, RunStateChanged
from runmgr.records.events import RunEnded as RunEndedEvent
from runmgr.supervisor import commands, open_supervisor
from runmgr.supervisor.states import TERMINAL
from runmgr.tools import RunContext
from runmgr.usage import RequestUsage, RunUsage

EXAMPLES = int(os.environ.get("RUNMGR_PROGRAMS", "200"))

KINDS = ["text", "tools", "fails", "flaky", "raises", "hangs", "parent", "grandparent", "leaver"]
WITH_TOOLS = {"tools", "fails", "flaky", "raises"}

starts = st.tuples(
    st.just("start"),
    st.sampled_from(KINDS),
    st.sampled_from(["a", "b"]),
    st.integers(0, 2),
    st.sampled_from([None, None, None, 0.3, 2.0]),
    st.sampled_from([None, None, None, 0.3, 2.0]),
)
sleeps = st.tuples(st.just("sleep"), st.sampled_from([0, 0.1, 0.6, 1, 3]))
commands_ = st.one_of(
    st.tuples(
        st.sampled_from(["cancel", "pause", "resume", "send", "snapshot", "again"]), st.integers(0, 30)
    ),
    st.tuples(st.sampled_from(["pause all", "resume all", "resume all"])),
)
changes = st.one_of(
    st.tuples(st.just("resize"), st.integers(1, 5)),
    st.tuples(st.just("limit"), st.sampled_from(["a", "b"]), st.integers(0, 3)),
    st.tuples(st.just("weight"), st.sampled_from(["a", "b"]), st.sampled_from([0.5, 3.0])),
    st.tuples(st.just("resize queue"), st.integers(0, 8)),
)
drains = st.tuples(st.just("drain"))
# A list of each, so that what there is little to do with (commands without runs) does not crowd out what there is.
actions = st.one_of(starts, starts, starts, sleeps, sleeps, commands_, commands_, changes)
# After a drain nothing more is admitted: the rest of a program sees what is there to its end.
programs = st.one_of(
    st.lists(actions, min_size=5, max_size=40),
    st.lists(actions, min_size=5, max_size=40),
    st.tuples(st.lists(actions, min_size=5, max_size=25), drains, st.lists(actions, max_size=15)).map(
        lambda parts: [*parts[0], parts[1], *parts[2]]
    ),
)
endings = st.sampled_from(["leave", "drain", "cancel", "grace", "raise", "outer cancel"])


@dataclass
class World:
    handles: list = field(default_factory=list)
    admitted: list = field(default_factory=list)
    started: list = field(default_factory=list)
    ended: list = field(default_factory=list)
    outcomes: dict = field(default_factory=dict)
    """Of all runs, also of those whose submitter was cancelled before it had the handle."""
    disturbed: set = field(default_factory=set)
    """Runs that were paused or whose group was limited: they may start out of turn."""
    answers: list = field(default_factory=list)
    answered: int = 0
    allowed: int = 0
    limits: dict = field(default_factory=dict)
    of_group: dict = field(default_factory=dict)
    failed: set = field(default_factory=set)
    draining: bool = False
    drained: bool = False


WORLD: ContextVar[World] = ContextVar("world")
"""Of the program that runs; runs see the one of whoever submitted them."""


def make(kind):
    async def answer(messages, info):
        await trio.sleep(0.5)
        world = WORLD.get()
        turn = sum(isinstance(message, ModelResponse) for message in messages)
        if kind == "fails" and turn == 1:
            raise ModelHTTPError(400, "m")
        if kind == "flaky" and turn == 1 and id(messages[0]) not in world.failed:
            world.failed.add(id(messages[0]))
            raise ModelHTTPError(500, "m")
        if kind == "hangs":
            await trio.sleep_forever()
        world.answered += 1
        usage = RequestUsage(input_tokens=len(messages), output_tokens=3, details={"reasoning": 1})
        if kind in WITH_TOOLS and turn < 2:
            return ModelResponse(parts=[ToolCallPart("work", {"n": turn}, f"c{turn}")], usage=usage)
        if kind in {"parent", "grandparent", "leaver"} and turn < 1:
            calls = [ToolCallPart("delegate", {"n": n}, f"d{n}") for n in range(2)]
            return ModelResponse(parts=calls, usage=usage)
        return ModelResponse(parts=[TextPart("done")], usage=usage)

    agent = Agent(FunctionModel(answer, model_name=f"model-{kind}"))

    @agent.tool_plain
    async def work(n: int) -> int:
        await trio.sleep(0.2)
        if kind == "raises" and n == 1:
            raise KeyError("a user's bug")
        return n

    @agent.tool
    async def delegate(ctx: RunContext, n: int) -> str:
        child = AGENTS["parent" if kind == "grandparent" else ["tools", "text"][n]]
        handle = await ctx.supervisor.submit(child, f"{n}")
        WORLD.get().handles.append(handle)
        if kind == "leaver":
            return "left to itself"
        return (await handle.outcome()).status

    return agent


AGENTS = {name: make(name) for name in KINDS}
NAMES = {agent: name for name, agent in AGENTS.items()}


def total(usages):
    result = RunUsage()
    for usage in usages:
        result = result + usage
    return result


def check(sup, world, max_parked):
    snapshot = sup.snapshot()
    states = snapshot.states
    # Lowering the limit interrupts nobody: until enough have ended, those who had a place keep it, and whom they wait for needs one.
    kept = sup._runtime.admission.kept
    world.allowed = max(snapshot.max_running, kept + 1, min(world.allowed, snapshot.places_taken))
    assert states["running"] + states["waiting"] <= world.allowed
    assert snapshot.places_taken <= world.allowed
    assert snapshot.parked <= max_parked
    for group, limit in world.limits.items():
        places = sum(actor._holds and actor.group == group for actor in sup._runtime.live.values())
        kept = sum(
            1 for a in sup._runtime.live.values() if a.group == group and a._extras and a._extras.stuck
        )
        world.of_group[group] = max(limit, kept + 1, min(world.of_group.get(group, 100), places))
        assert places <= world.of_group[group]
    by_state = {}
    for actor in sup._runtime.live.values():
        if actor.state not in TERMINAL:
            by_state[actor.state.value] = by_state.get(actor.state.value, 0) + 1
    assert {state: count for state, count in states.items() if count and state not in TERMINAL} == by_state
    everything = sup.usage()
    assert everything == total(sup.usage(by="model").values())
    assert everything == total(sup.usage(by="group").values())
    assert everything == total(sup.usage(by="run").values())
    assert everything.requests == world.answered
    for handle in world.handles:
        assert (handle._outcome is not None) <= (handle.state in TERMINAL)
    told = set(world.ended)
    assert len(told) == len(world.ended)  # nobody is told twice
    assert all(handle._outcome is not None for handle in world.handles if handle.run_id in told)
    assert snapshot.closed is not None if world.draining else True
    check_order(world)


def check_order(world):
    """First in, first out within a priority and a group: of those whom nothing kept from starting in turn."""
    for wanted in {(handle.group, handle.priority) for handle in world.handles}:
        of_this = [
            handle.run_id
            for handle in world.handles
            if (handle.group, handle.priority) == wanted
            and "/" not in handle.run_id
            and "-" not in handle.run_id
            and handle.run_id not in world.disturbed
        ]
        started = [run_id for run_id in dict.fromkeys(world.started) if run_id in set(of_this)]
        assert started == [run_id for run_id in of_this if run_id in set(started)]


def check_families(sup, world):
    used = sup.usage(by="run")
    for run_id, outcome in world.outcomes.items():
        children = [child for child in world.outcomes.values() if child.parent == run_id]
        own = used.get(run_id, RunUsage())
        assert outcome.usage == total([own, *(child.usage for child in children)])
        for child in children:
            assert child.finished_at <= outcome.finished_at


async def perform(sup, world, action, nursery):
    name, *rest = action
    if name == "start":
        kind, group, priority, timeout, deadline = rest
        run_id = f"r{len(world.handles)}"
        with contextlib.suppress(trio.WouldBlock, *([SupervisorClosed] if world.draining else [])):
            world.handles.append(
                sup.submit_nowait(
                    AGENTS[kind],
                    "go",
                    run_id=run_id,
                    group=group,
                    priority=priority,
                    timeout=timeout,
                    deadline=deadline,
                )
            )
    elif name == "sleep":
        await trio.sleep(rest[0])
    elif name == "resize":
        sup.max_running = rest[0]
    elif name == "resize queue":
        sup.max_queued = rest[0]
    elif name == "drain":

        async def drain():
            await sup.drain()
            world.drained = True

        nursery.start_soon(drain)
        world.draining = True
        await trio.testing.wait_all_tasks_blocked()
    elif name == "limit":
        sup.set_group(rest[0], max_running=rest[1])
        world.limits[rest[0]] = rest[1]
    elif name == "weight":
        sup.set_group(rest[0], weight=rest[1])
    elif name == "pause all":
        sup.pause()
    elif name == "resume all":
        sup.resume()
    elif world.handles:
        handle = world.handles[rest[0] % len(world.handles)]
        try:
            if name == "cancel":
                handle.cancel("by the program")
            elif name == "pause":
                world.disturbed.add(handle.run_id)
                world.answers.append((handle, handle.pause()))
            elif name == "resume":
                world.answers.append((handle, handle.resume()))
            elif name == "send":
                world.answers.append((handle, handle.send("more")))
            elif name == "snapshot":
                world.answers.append((handle, commands.ask_snapshot(handle)))
            elif name == "again":
                assert sup.submit_nowait(AGENTS["text"], "go", run_id=handle.run_id) is handle
        except RunEnded:
            assert handle.state in TERMINAL
        except trio.WouldBlock:
            pass


class Mine(Exception):
    pass


async def play(program, ending, max_running, max_queued, max_parked, restart, path):
    world = World(allowed=max_running)
    WORLD.set(world)
    tasks = trio.lowlevel.current_statistics().tasks_living

    async def listen(sup, task_status):
        async with sup.subscribe(buffer=100_000) as events:
            task_status.started()
            async for event in events:
                if isinstance(event, RunAdmitted):
                    world.admitted.append(event.run_id)
                elif isinstance(event, RunEndedEvent):
                    world.ended.append(event.run_id)
                    world.outcomes[event.run_id] = event.outcome
                elif isinstance(event, RunStateChanged) and (event.before, event.after) == (
                    "queued",
                    "running",
                ):
                    world.started.append(event.run_id)

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as outer:
            try:
                async with open_supervisor(
                    max_running=max_running,
                    max_queued=max_queued,
                    max_parked=max_parked,
                    restart=RestartPolicy(max_restarts=1, backoff=0.5) if restart else None,
                    retries=0,
                    journal=path,
                    remember=1_000,
                ) as sup:
                    await nursery.start(listen, sup)
                    for action in program:
                        await perform(sup, world, action, nursery)
                        check(sup, world, max_parked)
                        await trio.lowlevel.checkpoint()
                        check(sup, world, max_parked)
                    for group in ("a", "b"):
                        sup.set_group(group, max_running=100)
                        world.limits[group] = 100
                    for handle in list(world.handles):
                        if handle.state not in TERMINAL:
                            handle.resume()
                            if ending in {"leave", "drain"} and handle._job.agent is AGENTS["hangs"]:
                                handle.cancel("would hang")
                    sup.resume()
                    if ending == "drain":
                        await sup.drain()
                        assert all(handle.state in TERMINAL for handle in world.handles)
                        try:
                            sup.submit_nowait(AGENTS["text"])
                            raise AssertionError("admitted after drain")
                        except SupervisorClosed:
                            pass
                    elif ending == "cancel":
                        sup.cancel("stop")
                    elif ending == "grace":
                        sup.cancel("stop", grace=0.4)
                    elif ending == "raise":
                        raise Mine
                    elif ending == "outer cancel":
                        outer.cancel()
            except Mine:
                assert ending == "raise"
        check(sup, world, max_parked)
        snapshot = sup.snapshot()
        assert snapshot.places_taken == snapshot.queued == snapshot.submitting == snapshot.parked == 0
    assert trio.lowlevel.current_statistics().tasks_living == tasks
    assert world.drained is world.draining
    assert (
        sorted(world.ended) == sorted(set(world.admitted)) == sorted(world.admitted)
    )  # each exactly one outcome
    known = {handle.run_id for handle in world.handles}
    assert known <= set(world.admitted)
    for run_id in set(world.admitted) - known:
        # Its submitter ended while it waited for its own place again.
        assert world.outcomes[world.outcomes[run_id].parent].status in {"cancelled", "failed"}
    for handle in world.handles:
        outcome = await handle.outcome()
        assert outcome.status == handle.state
        assert outcome.status in TERMINAL
        assert outcome.usage == handle.usage()
    check_families(sup, world)
    check_order(world)
    for _, answer in world.answers:
        assert answer.done  # given, or refused as the run ended
    if ending in {"leave", "drain"}:
        for handle in world.handles:
            outcome = handle._outcome
            if outcome.status == "failed" and outcome.error.type != "TimeoutError":
                kind = NAMES[handle._job.agent]
                if kind == "flaky":
                    assert outcome.attempts == 1 + restart
                elif kind in {"parent", "grandparent", "leaver"}:
                    assert "parked" in outcome.error.message
                    assert max_parked < 100
                else:
                    assert kind in {"fails", "raises"}
    return world


@given(
    program=programs,
    ending=endings,
    max_running=st.integers(1, 4),
    max_queued=st.integers(0, 6),
    max_parked=st.sampled_from([0, 1, 2, 100]),
    restart=st.booleans(),
    journaled=st.booleans(),
    rng=st.random_module(),
)
@settings(max_examples=EXAMPLES, deadline=None)
def test_programs(program, ending, max_running, max_queued, max_parked, restart, journaled, rng):
    files = open_files()
    with tempfile.TemporaryDirectory() as directory, warnings.catch_warnings():
        warnings.simplefilter("error")
        path = f"{directory}/journal.sqlite" if journaled else None
        clock = trio.testing.MockClock(autojump_threshold=0)
        world = trio.run(
            play, program, ending, max_running, max_queued, max_parked, restart, path, clock=clock
        )
        if path is not None:
            with open_journal(path) as journal:
                kept = {outcome.run_id: outcome for outcome in journal.outcomes(messages=True)}
            for handle in world.handles:
                outcome = handle._outcome
                if handle.run_id in kept:
                    assert kept[handle.run_id].status == outcome.status
                    assert kept[handle.run_id].messages == outcome.messages
                    assert kept[handle.run_id].usage == outcome.usage
                else:  # stopped with the others: open, to be resumed
                    assert outcome.status == "cancelled"
                    assert ending in {"cancel", "grace", "raise", "outer cancel"}
    gc.collect(1)  # whatever was left open says so as it goes: warnings are errors, also those of finalizers
    assert open_files() == files


def open_files():
    return len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0
