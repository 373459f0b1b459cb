"""Generated programs: whatever is done to a supervisor, in whatever order, what must hold holds after every step."""

from __future__ import annotations

import contextlib
import os
import tempfile
from dataclasses import dataclass, field

import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from runmgr.agent import Agent
from runmgr.exceptions import ModelHTTPError, RunEnded, SupervisorClosed
from runmgr.journal import open_journal
from runmgr.messages import ModelResponse, TextPart, ToolCallPart
from runmgr.models.function import FunctionModel
from runmgr.records.events import RunAdmitted
from runmgr.records.events import RunEnded as RunEndedEvent
from runmgr.supervisor import open_supervisor
from runmgr.supervisor.states import TERMINAL
from runmgr.usage import RequestUsage, RunUsage

EXAMPLES = int(os.environ.get("RUNMGR_PROGRAMS", "60"))

durations = st.sampled_from([0, 0.1, 0.5, 1, 3])
actions = st.one_of(
    st.tuples(
        st.just("start"),
        st.sampled_from(["text", "tools", "fails", "raises", "hangs"]),
        st.sampled_from(["a", "b"]),
        st.integers(0, 2),
        st.one_of(st.none(), st.sampled_from([0.3, 2.0])),
    ),
    st.tuples(st.just("cancel"), st.integers(0, 30)),
    st.tuples(st.just("pause"), st.integers(0, 30)),
    st.tuples(st.just("resume"), st.integers(0, 30)),
    st.tuples(st.just("send"), st.integers(0, 30)),
    st.tuples(st.just("sleep"), durations),
    st.tuples(st.just("pause all")),
    st.tuples(st.just("resume all")),
    st.tuples(st.just("again"), st.integers(0, 30)),
)
programs = st.lists(actions, min_size=1, max_size=40)
endings = st.sampled_from(["leave", "drain", "cancel", "raise", "outer cancel"])


@dataclass
class World:
    handles: list = field(default_factory=list)
    admitted: list = field(default_factory=list)
    ended: list = field(default_factory=list)
    answered: int = 0

    def __post_init__(self):
        self.agents = {name: self.make(name) for name in ("text", "tools", "fails", "raises", "hangs")}

    def make(self, kind):
        async def answer(messages, info):
            await trio.sleep(0.5)
            turn = sum(isinstance(message, ModelResponse) for message in messages)
            if kind == "fails" and turn == 1:
                raise ModelHTTPError(400, "m")
            if kind == "hangs":
                await trio.sleep_forever()
            self.answered += 1
            usage = RequestUsage(input_tokens=len(messages), output_tokens=3, details={"reasoning": 1})
            if kind != "text" and turn < 2:
                return ModelResponse(parts=[ToolCallPart("work", {"n": turn}, f"c{turn}")], usage=usage)
            return ModelResponse(parts=[TextPart("done")], usage=usage)

        agent = Agent(FunctionModel(answer, model_name=f"model-{kind}"))

        @agent.tool_plain
        async def work(n: int) -> int:
            await trio.sleep(0.2)
            if kind == "raises" and n == 1:
                raise KeyError("a user's bug")
            return n

        return agent


def total(usages):
    result = RunUsage()
    for usage in usages:
        result = result + usage
    return result


def check(sup, world, max_running):
    snapshot = sup.snapshot()
    states = snapshot.states
    assert states["running"] + states["waiting"] <= max_running
    assert snapshot.places_taken <= max_running
    by_state = {}
    for handle in world.handles:
        by_state[handle.state.value] = by_state.get(handle.state.value, 0) + 1
    assert {name: count for name, count in states.items() if count} == by_state
    assert snapshot.queued + states["running"] + states["waiting"] + states["paused"] <= len(world.handles)
    everything = sup.usage()
    assert everything == total(sup.usage(by="model").values())
    assert everything == total(sup.usage(by="group").values())
    assert everything == total(sup.usage(by="run").values())
    assert everything.requests == world.answered
    for handle in world.handles:
        assert (handle._outcome is not None) <= (handle.state in TERMINAL)


async def perform(sup, world, action):
    name, *rest = action
    if name == "start":
        kind, group, priority, timeout = rest
        run_id = f"r{len(world.handles)}"
        with contextlib.suppress(trio.WouldBlock):
            world.handles.append(
                sup.submit_nowait(
                    world.agents[kind], "go", run_id=run_id, group=group, priority=priority, timeout=timeout
                )
            )
    elif name == "sleep":
        await trio.sleep(rest[0])
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
                handle.pause()
            elif name == "resume":
                handle.resume()
            elif name == "send":
                handle.send("more")
            elif name == "again":
                assert sup.submit_nowait(world.agents["text"], "go", run_id=handle.run_id) is handle
        except RunEnded:
            assert handle.state in TERMINAL
        except trio.WouldBlock:
            pass


class Mine(Exception):
    pass


async def play(program, ending, max_running, max_queued, path):
    world = World()
    tasks = trio.lowlevel.current_statistics().tasks_living

    async def listen(sup, task_status):
        async with sup.subscribe(buffer=100_000) as events:
            task_status.started()
            async for event in events:
                if isinstance(event, RunAdmitted):
                    world.admitted.append(event.run_id)
                elif isinstance(event, RunEndedEvent):
                    world.ended.append(event.run_id)

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as outer:
            try:
                async with open_supervisor(
                    max_running=max_running, max_queued=max_queued, journal=path, remember=100
                ) as sup:
                    await nursery.start(listen, sup)
                    for action in program:
                        await perform(sup, world, action)
                        check(sup, world, max_running)
                        await trio.lowlevel.checkpoint()
                        check(sup, world, max_running)
                    for handle in world.handles:
                        if handle.state not in TERMINAL:
                            handle.resume()
                            if ending in {"leave", "drain"} and handle._job.agent is world.agents["hangs"]:
                                handle.cancel("would hang")
                    sup.resume()
                    if ending == "drain":
                        await sup.drain()
                        assert all(handle.state in TERMINAL for handle in world.handles)
                        try:
                            sup.submit_nowait(world.agents["text"])
                            raise AssertionError("admitted after drain")
                        except SupervisorClosed:
                            pass
                    elif ending == "cancel":
                        sup.cancel("stop")
                    elif ending == "raise":
                        raise Mine
                    elif ending == "outer cancel":
                        outer.cancel()
            except Mine:
                assert ending == "raise"
        check(sup, world, max_running)
    assert trio.lowlevel.current_statistics().tasks_living == tasks
    assert sorted(world.admitted) == sorted(handle.run_id for handle in world.handles)
    assert sorted(world.ended) == sorted(world.admitted)  # each exactly one outcome
    for handle in world.handles:
        outcome = await handle.outcome()
        assert outcome.status == handle.state
        assert outcome.status in TERMINAL
        assert outcome.usage == handle.usage()
    if ending in {"leave", "drain"}:
        kinds = {
            handle._job.agent: name
            for handle in world.handles
            for name, agent in world.agents.items()
            if agent is handle._job.agent
        }
        for handle in world.handles:
            outcome = handle._outcome
            if outcome.status == "failed" and outcome.error.type != "TimeoutError":
                assert kinds[handle._job.agent] in {"fails", "raises"}
    return world


@given(
    program=programs,
    ending=endings,
    max_running=st.integers(1, 4),
    max_queued=st.integers(0, 6),
    journaled=st.booleans(),
    rng=st.random_module(),
)
@settings(max_examples=EXAMPLES, deadline=None)
def test_programs(program, ending, max_running, max_queued, journaled, rng):
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/journal.sqlite" if journaled else None
        clock = trio.testing.MockClock(autojump_threshold=0)
        world = trio.run(play, program, ending, max_running, max_queued, path, clock=clock)
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
                    assert ending in {"cancel", "raise", "outer cancel"}
