"""Tools that were running when a process ended: repeated, asked about, or failed."""

from __future__ import annotations

import pytest
import trio

from runmgr.agent import Agent
from runmgr.exceptions import ModelConnectionError, ToolInterrupted, UserError
from runmgr.journal import open_journal
from runmgr.messages import ModelRequest, ModelResponse, TextPart, ToolCallPart, UserPromptPart
from runmgr.models.function import FunctionModel
from runmgr.records.budgets import RestartPolicy
from runmgr.supervisor import open_supervisor
from runmgr.tools import DeferredToolRequests, DeferredToolResults, ToolDenied
from runmgr.toolsets import FunctionToolset


class Bank:
    """A model that asks for two tools in its first turn, one of which pays."""

    def __init__(self, idempotent, wrapped=False):
        self.asked = 0
        self.paid = []
        self.seen = []

        async def answer(messages, info):
            self.asked += 1
            if len(messages) == 1:
                return ModelResponse(
                    parts=[ToolCallPart("pay", {"sum": 5}, "p"), ToolCallPart("look", {}, "l")]
                )
            self.seen = {part.tool_call_id: part.content for part in messages[-1].parts}
            return ModelResponse(parts=[TextPart("done")])

        tools = FunctionToolset()

        async def pay(sum: int) -> str:
            self.paid.append(sum)
            await trio.sleep(1)
            return "paid"

        async def look() -> str:
            return "looked"

        tools.add_function(pay, takes_ctx=False, idempotent=idempotent)
        tools.add_function(look, takes_ctx=False, idempotent=True)

        self.agent = Agent(
            FunctionModel(answer), toolsets=[tools.filtered(lambda ctx, tool: True) if wrapped else tools]
        )

    async def interrupted(self, path):
        """A process that ends while the tools run."""
        with trio.move_on_after(0.5):
            async with open_supervisor(journal=path) as sup:
                await sup.submit(self.agent, "q", run_id="a")
        assert (self.asked, self.paid) == (1, [5])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.sqlite"


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("idempotent", [False, None])
async def test_a_tool_that_is_not_idempotent_is_asked_about(path, autojump_clock, idempotent, wrapped):
    bank = Bank(idempotent, wrapped)
    await bank.interrupted(path)
    async with open_supervisor(journal=path, resume=True) as sup:
        handle = await sup.submit(bank.agent, "q", run_id="a")
        await trio.sleep(100)
        assert handle.state == "paused"
        assert [call.tool_name for call in handle.question.calls] == ["pay"]
        assert 'pay({"sum":5}) [p]' in str(handle.question)
        assert bank.paid == [5]
        with pytest.raises(UserError, match="did not ask for l: it asked for p"):
            handle.answer({"l": 1})
        handle.answer({"p": "it was paid"})
        assert (await handle.outcome()).output == "done"
        assert handle.question is None
        with pytest.raises(UserError, match="has asked nothing"):
            other = await sup.submit(bank.agent, "q", run_id="b")
            other.answer()
    assert bank.seen["p"] == "paid"  # of the second run
    with open_journal(path) as journal:
        returned = {part.tool_call_id: part.content for part in journal.outcome("a").messages[2].parts}
    assert returned == {"p": "it was paid", "l": "looked"}
    assert bank.asked == 4  # no response was asked for twice


async def test_it_may_be_told_to_call_again_or_that_it_may_not(path, autojump_clock):
    bank = Bank(False)
    await bank.interrupted(path)
    async with open_supervisor(journal=path, resume=True) as sup:
        handle = await sup.submit(bank.agent, "q", run_id="a")
        await trio.sleep(1)
        handle.resume()
        assert (await handle.outcome()).output == "done"
    assert bank.paid == [5, 5]


async def test_it_may_be_denied(path, autojump_clock):
    bank = Bank(False)
    await bank.interrupted(path)
    async with open_supervisor(journal=path, resume=True) as sup:
        handle = await sup.submit(bank.agent, "q", run_id="a")
        await trio.sleep(1)
        await handle.answer({"p": ToolDenied("not again")}).wait()
        await handle.outcome()
    assert (bank.seen["p"], bank.paid) == ("not again", [5])


async def test_a_question_that_is_not_answered_stays(path, autojump_clock):
    bank = Bank(False)
    await bank.interrupted(path)
    for _ in range(2):
        with trio.move_on_after(1):
            async with open_supervisor(journal=path, resume=True) as sup:
                handle = await sup.submit(bank.agent, "q", run_id="a")
        assert handle.state == "cancelled"
    with open_journal(path) as journal:
        assert journal.counts() == {"open": 1}
    assert (bank.paid, bank.asked) == ([5], 1)


@pytest.mark.parametrize(("idempotent", "policy"), [(True, "ask"), (False, "repeat"), (None, "fail")])
async def test_what_may_be_repeated_is(path, autojump_clock, idempotent, policy):
    bank = Bank(idempotent)
    await bank.interrupted(path)
    async with open_supervisor(journal=path, resume=True, interrupted_tools=policy) as sup:
        outcome = await (await sup.submit(bank.agent, "q", run_id="a")).outcome()
    assert outcome.output == "done"
    assert (bank.paid, bank.asked) == ([5, 5], 2)


async def test_where_nobody_can_be_asked_a_declared_one_fails_the_run(path, autojump_clock):
    bank = Bank(False)
    await bank.interrupted(path)
    async with open_supervisor(journal=path, resume=True, interrupted_tools="fail") as sup:
        outcome = await (await sup.submit(bank.agent, "q", run_id="a")).outcome()
    assert (outcome.status, outcome.error.type) == ("failed", ToolInterrupted.__name__)
    assert "pay" in outcome.error.message
    assert bank.paid == [5]


async def test_calls_that_wait_for_a_person_outlive_the_process(path, autojump_clock):
    done = []

    async def answer(messages, info):
        if len(messages) == 1:
            return ModelResponse(parts=[ToolCallPart("delete", {"file": "a"}, "d")])
        return ModelResponse(parts=[TextPart("gone")])

    agent = Agent(FunctionModel(answer), output_type=[str, DeferredToolRequests])

    @agent.tool_plain(requires_approval=True)
    async def delete(file: str) -> str:
        done.append(file)
        return "deleted"

    async with open_supervisor(journal=path) as sup:
        await sup.submit(agent, "q", run_id="a")
    async with open_supervisor(journal=path, resume=True) as sup:
        handle = await sup.submit(agent, "q", run_id="a")
        result = await handle.result()
        assert result.output == DeferredToolRequests(approvals=[ToolCallPart("delete", {"file": "a"}, "d")])
        results = DeferredToolResults(approvals={"d": True})
        options = {"message_history": result.all_messages(), "deferred_tool_results": results}
        outcome = await (await sup.submit(agent, run_id="b", **options)).outcome()
    assert (outcome.output, done) == ("gone", ["a"])


class Desk:
    """An agent whose tool deletes files, once somebody has said that it may."""

    def __init__(self, *, requires_approval, idempotent):
        self.done = []

        async def answer(messages, info):
            if len(messages) == 1:
                return ModelResponse(parts=[ToolCallPart("delete", {"file": "a"}, "d")])
            return ModelResponse(parts=[TextPart(f"gone: {messages[-1].parts[0].content}")])

        self.agent = Agent(FunctionModel(answer), output_type=[str, DeferredToolRequests])

        @self.agent.tool_plain(requires_approval=requires_approval, idempotent=idempotent)
        async def delete(file: str) -> str:
            self.done.append(file)
            await trio.sleep(1)
            return "deleted"


def waiting(prompt="q"):
    """A history that ends with a call that waits."""
    return [
        ModelRequest(parts=[UserPromptPart(prompt)]),
        ModelResponse(parts=[ToolCallPart("delete", {"file": "a"}, "d")]),
    ]


@pytest.fixture(params=[True, False], ids=["approved", "left over"])
def begun(request):
    """A run that is begun with a call whose tool is next: because it was approved, or because the history ends so."""
    options = {"message_history": waiting()}
    if request.param:
        options["deferred_tool_results"] = DeferredToolResults(approvals={"d": True})
    return request.param, options


async def interrupted(path, desk, options):
    with trio.move_on_after(0.5):
        async with open_supervisor(journal=path) as sup:
            await sup.submit(desk.agent, run_id="a", **options)
    assert desk.done == ["a"]


async def test_a_tool_that_a_run_began_with_is_asked_about(path, autojump_clock, begun):
    approved, options = begun
    desk = Desk(requires_approval=approved, idempotent=None)
    await interrupted(path, desk, options)
    async with open_supervisor(journal=path, resume=True) as sup:
        handle = await sup.submit(desk.agent, run_id="a", **options)
        await trio.sleep(5)
        assert handle.state == "paused"
        assert [call.tool_call_id for call in handle.question.calls] == ["d"]
        handle.answer({"d": "it had been deleted"})
        outcome = await handle.outcome()
    assert outcome.output == "gone: it had been deleted"
    assert desk.done == ["a"]


async def test_or_called_again_when_told_to(path, autojump_clock, begun):
    approved, options = begun
    desk = Desk(requires_approval=approved, idempotent=False)
    await interrupted(path, desk, options)
    async with open_supervisor(journal=path, resume=True) as sup:
        handle = await sup.submit(desk.agent, run_id="a", **options)
        await trio.sleep(5)
        handle.resume()
        assert (await handle.outcome()).output == "gone: deleted"
    assert desk.done == ["a", "a"]


async def test_or_without_a_question_where_it_may_be(path, autojump_clock, begun):
    approved, options = begun
    desk = Desk(requires_approval=approved, idempotent=True)
    await interrupted(path, desk, options)
    async with open_supervisor(journal=path, resume=True) as sup:
        outcome = await (await sup.submit(desk.agent, run_id="a", **options)).outcome()
    assert outcome.output == "gone: deleted"
    assert desk.done == ["a", "a"]


async def test_an_approved_tool_that_had_not_begun_is_not_asked_about(path, autojump_clock, begun):
    approved, options = begun
    desk = Desk(requires_approval=approved, idempotent=False)
    with trio.move_on_after(0.5):
        async with open_supervisor(journal=path) as sup:
            sup.pause()
            await sup.submit(desk.agent, run_id="a", **options)
    assert desk.done == []
    async with open_supervisor(journal=path, resume=True) as sup:
        outcome = await (await sup.submit(desk.agent, run_id="a", **options)).outcome()
    assert outcome.output == "gone: deleted"
    assert desk.done == ["a"]


async def test_a_restarted_run_still_has_the_answers_that_it_began_with(path, autojump_clock):
    failing = [True]

    async def answer(messages, info):
        return ModelResponse(parts=[TextPart(f"gone: {messages[-1].parts[0].content}")])

    agent = Agent(FunctionModel(answer), output_type=[str, DeferredToolRequests])

    @agent.tool_plain(requires_approval=True)
    async def delete(file: str) -> str:
        if failing and failing.pop():
            raise ModelConnectionError("m", "the model that this tool asks is away")
        return "deleted"

    options = {
        "message_history": waiting(),
        "deferred_tool_results": DeferredToolResults(approvals={"d": True}),
    }
    policy = RestartPolicy(max_restarts=1)
    async with open_supervisor(journal=path, restart=policy) as sup:
        outcome = await (await sup.submit(agent, **options)).outcome()
    assert (outcome.status, outcome.output, outcome.attempts) == ("succeeded", "gone: deleted", 2), (
        outcome.error
    )
