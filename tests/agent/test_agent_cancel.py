"""Cancelling runs: from outside, by a scope, at every place where a run can wait; what is left is valid."""

import threading
import time
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from runmgr.agent import Agent, capture_run_messages
from runmgr.concurrency import BareNursery
from runmgr.exceptions import RunCancelled
from runmgr.messages import ModelResponse, TextPart
from runmgr.models.function import FunctionModel
from runmgr.models.test import TestModel
from runmgr.models.wrapper import WrapperModel
from runmgr.tools import RunContext, tool_threads


class Hangs(FunctionModel):
    """Never answers, and knows whether somebody waits."""

    def __init__(self):
        super().__init__(lambda m, i: ModelResponse([TextPart("x")]), stream_function=self._stream)
        self.waiting = 0

    async def request(self, *args, **kwargs):
        self.waiting += 1
        try:
            await trio.sleep_forever()
        finally:
            self.waiting -= 1

    async def _stream(self, messages, info):
        yield "so far"
        self.waiting += 1
        try:
            await trio.sleep_forever()
        finally:
            self.waiting -= 1


async def drive(agent, *, cancel_when_blocked=True, prompt="?", reason="enough"):
    """Drive a run, cancel it from another task once it waits, and give back the run and what was raised."""
    caught = []
    async with agent.iter(prompt) as run:
        async with trio.open_nursery() as nursery:

            async def canceller():
                await wait_all_tasks_blocked()
                run.cancel(reason)

            nursery.start_soon(canceller)
            try:
                async for _ in run:
                    pass
            except RunCancelled as error:
                caught.append(error)
    return run, caught[0]


async def test_in_a_model_request():
    model = Hangs()
    run, error = await drive(Agent(model))
    assert model.waiting == 0
    assert "enough" in str(error)
    outcome = error.outcome
    assert (outcome.run_id, outcome.status, outcome.error.message) == (run.run_id, "cancelled", "enough")
    assert outcome.messages is run.all_messages()
    assert [m.kind for m in run.all_messages()] == ["request"]
    resumed = await Agent(TestModel(custom_output_text="ok")).run(message_history=run.all_messages())
    assert resumed.output == "ok"


@pytest.mark.parametrize("several", [False, True])
async def test_in_tools(says, call, several):
    calls = [call("hang", {}, f"c{n}") for n in range(3 if several else 1)]
    running = 0
    agent = Agent(says(calls, "done"))

    @agent.tool_plain
    async def hang() -> str:
        nonlocal running
        running += 1
        try:
            await trio.sleep_forever()
        finally:
            running -= 1
        return "never"

    run, _ = await drive(agent)
    assert running == 0
    assert [m.kind for m in run.all_messages()] == ["request", "response"]
    assert run.usage().tool_calls == 0

    again = Agent(says("done"))

    @again.tool_plain(name="hang")
    async def answers() -> str:
        return "now"

    resumed = await again.run(message_history=run.all_messages())
    assert resumed.output == "done"
    assert [p.content for p in resumed.new_messages()[0].parts] == ["now"] * len(calls)


async def test_in_a_validator(says):
    agent = Agent(says("x"))

    @agent.output_validator
    async def hang(output):
        await trio.sleep_forever()

    run, _ = await drive(agent)
    assert run.result is None


async def test_in_instructions(says):
    run, _ = await drive(Agent(says("x"), instructions=trio.sleep_forever))
    assert run.all_messages() == []


async def test_in_a_stream():
    model = Hangs()
    agent = Agent(model)
    async with agent.iter("?") as run, trio.open_nursery() as nursery:
        node = await run.next(run.next_node)

        async def canceller():
            await wait_all_tasks_blocked()
            run.cancel("enough")

        nursery.start_soon(canceller)
        with pytest.raises(RunCancelled):
            async with node.stream(run.ctx) as stream:
                async for _ in stream:
                    pass
    assert model.waiting == 0
    assert run.all_messages()[-1].parts == [TextPart("so far")]


class Nursed(WrapperModel):
    """Its streams hold a nursery open, as a context manager may."""

    def __init__(self, wrapped, delay=0):
        super().__init__(wrapped)
        self.delay = delay
        self.open = 0

    @asynccontextmanager
    async def request_stream(self, *args, **kwargs):
        async with BareNursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            self.open += 1
            try:
                await trio.sleep(self.delay)
                async with self.wrapped.request_stream(*args, **kwargs) as stream:
                    yield stream
            finally:
                self.open -= 1


@pytest.mark.parametrize("form", ["run_stream", "node", "handler", "events", "block"])
async def test_a_models_stream_may_hold_a_nursery(form, autojump_clock):
    model = Nursed(TestModel(custom_output_text="a b"), delay=1)
    agent = Agent(model)
    if form == "run_stream":
        async with agent.run_stream("?") as streamed:
            output = await streamed.get_output()
    elif form == "handler":

        async def handler(ctx, events):
            async for _ in events:
                pass

        output = (await agent.run("?", event_stream_handler=handler)).output
    elif form == "events":
        output = [event async for event in agent.run_stream_events("?")][-1].result.output
    elif form == "block":
        async with agent.run_stream_events("?") as events:
            output = [event async for event in events][-1].result.output
    else:
        async with agent.iter("?") as run:
            async for node in run:
                if Agent.is_model_request_node(node):
                    async with node.stream(run.ctx) as stream:
                        seen = [text async for text in stream.stream_text(debounce_by=0.1)]
        output = run.result.output
        assert seen == ["a b"]
    assert (output, model.open) == ("a b", 0)


@pytest.mark.parametrize("when", ["opening", "reading"])
async def test_in_a_stream_that_holds_a_nursery(when, autojump_clock):
    model = Nursed(Hangs(), delay=1)
    async with Agent(model).iter("?") as run, trio.open_nursery() as nursery:
        node = await run.next(run.next_node)

        async def canceller():
            await trio.sleep(0.5 if when == "opening" else 2)
            run.cancel("enough")

        nursery.start_soon(canceller)
        with pytest.raises(RunCancelled, match="enough"):
            async with node.stream(run.ctx) as stream:
                async for _ in stream:
                    pass
        await trio.sleep(1)  # the reader's own code is not cancelled
    assert model.open == 0
    assert [m.kind for m in run.all_messages()] == ["request", "response"][: 1 + (when == "reading")]
    resumed = await Agent(TestModel(custom_output_text="ok")).run("go on", message_history=run.all_messages())
    assert resumed.output == "ok"


async def test_in_a_debounced_stream():
    model = Hangs()
    async with Agent(model).iter("?") as run, trio.open_nursery() as nursery:
        node = await run.next(run.next_node)

        async def canceller():
            await trio.sleep(0.05)
            run.cancel("enough")

        nursery.start_soon(canceller)
        seen = []
        with pytest.raises(RunCancelled):
            async with node.stream(run.ctx) as stream:
                async for text in stream.stream_text(debounce_by=0.01):
                    seen.append(text)  # noqa: PERF401
    assert seen == ["so far"]
    assert model.waiting == 0


async def test_in_a_stream_of_tools(says, call):
    agent = Agent(says([call("hang")]))

    @agent.tool_plain
    async def hang() -> str:
        await trio.sleep_forever()
        return "never"

    async with agent.iter("?") as run, trio.open_nursery() as nursery:
        node = await run.next(await run.next(run.next_node))

        async def canceller():
            await wait_all_tasks_blocked()
            run.cancel("enough")

        nursery.start_soon(canceller)
        body_went_on = False
        with pytest.raises(RunCancelled):
            async with node.stream(run.ctx) as events:
                try:
                    async for _ in events:
                        pass
                except RunCancelled:
                    await trio.lowlevel.checkpoint()
                    body_went_on = True
                    raise
        assert body_went_on, "the reader's own code is not cancelled"


async def test_between_steps(says):
    async with Agent(says("x")).iter("?") as run:
        node = await run.next(run.next_node)
        run.cancel("first")
        run.cancel("second")
        await trio.lowlevel.checkpoint()  # the user's own code is not cancelled
        with pytest.raises(RunCancelled, match="first"):
            await run.next(node)
        with pytest.raises(RunCancelled, match="first"):
            await run.next(node)
    assert run.usage().requests == 0


async def test_after_the_end(says):
    async with Agent(says("x")).iter("?") as run:
        async for _ in run:
            pass
        run.cancel("too late")
    assert run.result.output == "x"


async def test_by_an_outer_scope(says, call, autojump_clock):
    model = Hangs()
    with capture_run_messages() as messages:
        with trio.move_on_after(5) as scope:
            await Agent(model).run("?")
    assert scope.cancelled_caught
    assert (model.waiting, trio.current_time()) == (0, 5)
    assert [m.kind for m in messages] == ["request"]


async def test_one_runs_cancellation_is_not_anothers(says):
    agent = Agent(Hangs())
    other = Agent(says("x"))
    run, _ = await drive(agent)
    async with agent.iter("?") as second:
        assert await second.next(second.next_node)
        assert (await other.run("?")).output == "x"


async def test_a_sync_tool_is_waited_for_and_then_left(says, call):
    begun, release = threading.Event(), threading.Event()
    agent = Agent(says([call("block")]))

    @agent.tool_plain
    def block() -> str:
        begun.set()
        release.wait(10)
        return "too late"

    tool_threads().grace = 0.05
    try:
        started = time.perf_counter()
        async with trio.open_nursery() as nursery:

            async def cancel():
                await trio.to_thread.run_sync(begun.wait)
                nursery.cancel_scope.cancel()

            nursery.start_soon(cancel)
            async with agent.iter("?") as run:
                async for _ in run:
                    pass
        assert nursery.cancel_scope.cancelled_caught
        assert time.perf_counter() - started < 5
        assert run.abandoned_threads == ("block",)
        assert run.usage().tool_calls == 0
        begun.clear()
        async with (
            Agent(says([call("block")]), tools=[block]).iter("?") as run,
            trio.open_nursery() as nursery,
        ):

            async def canceller():
                await trio.to_thread.run_sync(begun.wait)
                run.cancel("enough")

            nursery.start_soon(canceller)
            with pytest.raises(RunCancelled) as caught:
                async for _ in run:
                    pass
        assert run.abandoned_threads == caught.value.outcome.abandoned_threads == ("block",)
    finally:
        release.set()


async def test_a_thread_left_by_a_timeout_is_named_in_the_result(says, call):
    release = threading.Event()
    agent = Agent(says([call("block")], "done"), tool_timeout=0.05)

    @agent.tool_plain
    def block() -> str:
        release.wait(10)
        return "too late"

    tool_threads().grace = 0.05
    try:
        result = await agent.run("?")
    finally:
        release.set()
    assert result.abandoned_threads == ("block",)
    (answer,) = result.all_messages()[2].parts
    assert answer.content == "Timed out after 0.05 seconds."
    assert result.usage().tool_calls == 0


class Host:
    supervisor = "the supervisor"
    wants_events = False

    def __init__(self):
        self.requests = 0
        self.events = []

    async def request(self, model, messages, settings, params):
        self.requests += 1
        return await model.request_once(messages, settings, params)

    @asynccontextmanager
    async def request_stream(self, model, messages, settings, params, run_context):
        self.requests += 1
        async with model.request_stream_once(messages, settings, params, run_context) as response:
            yield response

    def emit(self, event):
        self.events.append(event)


async def test_a_hosted_run_passes_the_hosts_doors(says, call):
    host = Host()
    agent = Agent(says([call("who")], "done"))
    seen = []

    @agent.tool
    async def who(ctx: RunContext) -> None:
        seen.append(ctx.supervisor)

    async with agent.iter("?", host=host) as run:
        async for _ in run:
            pass
    assert (host.requests, seen, host.events) == (2, ["the supervisor"], [])
    assert run.ctx.deps.cancellation is None, "a hosted run has no scope of its own"


async def test_a_hosted_run_tells_events_when_asked(says, call):
    host = Host()
    host.wants_events = True
    agent = Agent(says([call("look")], "done"))

    @agent.tool_plain
    async def look() -> str:
        return "seen"

    async with agent.iter("?", host=host) as run:
        async for _ in run:
            pass
    assert [e.event_kind for e in host.events] == ["function_tool_call", "function_tool_result"]


async def test_a_hosted_run_can_be_cancelled_between_steps(says):
    async with Agent(says("x")).iter("?", host=Host()) as run:
        node = await run.next(run.next_node)
        run.cancel("enough")
        with pytest.raises(RunCancelled, match="enough"):
            await run.next(node)


@pytest.mark.parametrize("sync", [False, True])
async def test_sub_agents_pass_the_hosts_doors_too(says, call, sync):
    host = Host()
    host.wants_events = True
    inner = Agent(says([call("look", {}, "inner")], "inner"))

    @inner.tool
    async def look(ctx: RunContext) -> str:
        return ctx.supervisor

    outer = Agent(says([call("ask")], "done", "again"))
    if sync:

        @outer.tool_plain
        def ask() -> str:
            return trio.from_thread.run(lambda: inner.run("?")).output
    else:

        @outer.tool_plain
        async def ask() -> str:
            async with inner.iter("?") as run:
                async for _ in run:
                    pass
            assert run.ctx.deps.cancellation is not None, "it can be cancelled alone"
            return run.result.output

    async with outer.iter("?", host=host) as run:
        async for _ in run:
            pass
    assert run.result.output == "done"
    assert host.requests == 4
    assert len(host.events) == 2, "its events are not the outer run's"
    await outer.run("?")
    assert host.requests == 4


async def test_a_hosted_stream(says):
    host = Host()
    async with Agent(TestModel(custom_output_text="a b")).iter("?", host=host) as run:
        node = await run.next(run.next_node)
        async with node.stream(run.ctx) as stream:
            assert [t async for t in stream.stream_text(debounce_by=None)] == ["a ", "a b"]
    assert host.requests == 1
