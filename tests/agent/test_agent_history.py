"""Histories: continuing a conversation, prompts and instructions, history processors."""

import pytest

from runmgr.agent import Agent, capture_run_messages
from runmgr.exceptions import ModelConnectionError, UserError
from runmgr.messages import (
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from runmgr.models.function import FunctionModel
from runmgr.models.test import TestModel
from runmgr.structs import replace
from runmgr.tools import RunContext


def talk():
    return [
        ModelRequest([UserPromptPart("before")], run_id="old"),
        ModelResponse([TextPart("answer")], run_id="old"),
    ]


def texts(messages):
    return [getattr(part, "content", "(call)") for message in messages for part in message.parts]


async def test_a_new_prompt_after_a_conversation(says):
    history = talk()
    result = await Agent(says("x")).run("more", message_history=history)
    assert texts(result.all_messages()) == ["before", "answer", "more", "x"]
    assert texts(result.new_messages()) == ["more", "x"]
    assert [m.run_id for m in result.all_messages()] == ["old", "old", result.run_id, result.run_id]
    assert len(history) == 2, "the caller's list stays as it is"


async def test_three_runs_in_a_row(says):
    agent = Agent(says("a", "b", "c"))
    first = await agent.run("1")
    second = await agent.run("2", message_history=first.all_messages())
    third = await agent.run("3", message_history=second.all_messages())
    assert texts(third.all_messages()) == ["1", "a", "2", "b", "3", "c"]
    assert texts(third.new_messages()) == ["3", "c"]
    assert len({m.run_id for m in third.all_messages()}) == 3


async def test_a_trailing_request_is_sent_again(says):
    history = talk()[:1]
    result = await Agent(says("x")).run(message_history=history)
    assert texts(result.all_messages()) == ["before", "x"]
    assert texts(result.new_messages()) == ["x"]
    assert [m.run_id for m in result.all_messages()] == [result.run_id] * 2
    assert (history[0].run_id, history[0].timestamp) == ("old", None), "the caller's message stays as it is"


async def test_a_trailing_request_gives_the_context_its_prompt(says):
    seen = []

    def note(ctx: RunContext) -> str:
        seen.append(ctx.prompt)
        return ""

    await Agent(says("x"), instructions=note).run(message_history=[ModelRequest([UserPromptPart("q")])])
    several = [ModelRequest([UserPromptPart("a"), UserPromptPart(["b", "c"])])]
    await Agent(says("x"), instructions=note).run(message_history=several)
    assert seen == ["q", ["a", "b", "c"]]


async def test_a_trailing_request_and_a_prompt_are_sent_as_one(says):
    sent = []

    def model(messages, info):
        sent.append([texts([m]) for m in messages])
        return [ToolCallPart("look", {}, "c1")] if len(sent) == 1 else "x"

    agent = Agent(says(model, model))

    @agent.tool_plain
    async def look() -> str:
        return "seen"

    history = [*talk(), ModelRequest([UserPromptPart("again")])]
    result = await agent.run("more", message_history=history)
    assert sent[0] == [["before"], ["answer"], ["again", "more"]]
    assert [len(m) for m in sent[1]] == [1, 1, 2, 1, 1]
    assert texts(result.new_messages())[:1] == ["more"]
    assert len(result.all_messages()) == 7, "in the history they stay two"


async def test_unanswered_calls_are_run(says, call):
    agent = Agent(says("8"))

    @agent.tool_plain
    async def double(x: int) -> int:
        return 2 * x

    history = [*talk()[:1], ModelResponse([call("double", {"x": 4})])]
    result = await agent.run(message_history=history)
    assert texts(result.new_messages()) == [8, "8"]
    assert result.output == "8"
    with pytest.raises(UserError, match="unprocessed tool calls"):
        await agent.run("and now?", message_history=history)


async def test_a_finished_conversation_without_anything_new(says):
    result = await Agent(says()).run(message_history=talk())
    assert result.output == "answer"
    assert result.new_messages() == []
    assert result.usage().requests == 0


async def test_nothing_to_ask(says):
    with pytest.raises(UserError, match="No message history, user prompt, or instructions provided"):
        await Agent(says("x")).run()


# ------------------------------------------------------------------ system prompts and instructions


async def test_system_prompts_begin_a_history(says):
    agent = Agent(says("a", "b"), system_prompt=("one", "two"))

    @agent.system_prompt
    def three(ctx: RunContext) -> str:
        return f"three for {ctx.prompt}"

    @agent.system_prompt
    async def nothing() -> None:
        return None

    first = await agent.run("x")
    assert [type(p) for p in first.all_messages()[0].parts] == [SystemPromptPart] * 3 + [UserPromptPart]
    assert texts(first.all_messages()) == ["one", "two", "three for x", "x", "a"]
    second = await agent.run("y", message_history=first.all_messages())
    assert texts(second.new_messages()) == ["y", "b"]


async def test_dynamic_system_prompts_are_asked_again(says):
    agent = Agent(says("a", "b", "c"), deps_type=str)

    @agent.system_prompt(dynamic=True)
    async def who(ctx: RunContext[str]) -> str:
        return f"you talk to {ctx.deps}"

    first = await agent.run("x", deps="Ann")
    assert first.all_messages()[0].parts[0].dynamic_ref == who.__qualname__
    second = await agent.run("y", deps="Bob", message_history=first.all_messages())
    assert texts(second.all_messages())[0] == "you talk to Bob"
    assert texts(first.all_messages())[0] == "you talk to Ann", "the earlier run's messages stay as they were"
    third = await agent.run(deps="Eve", message_history=first.all_messages()[:1])
    assert texts(third.all_messages())[0] == "you talk to Eve"


async def test_instructions_are_on_each_request(says, call):
    agent = Agent(says([call("look")], "x"), instructions=["constant", lambda: "called"])

    @agent.instructions
    async def step(ctx: RunContext) -> str:
        return f"step {ctx.run_step}"

    @agent.instructions()
    def none() -> None:
        return None

    @agent.tool_plain
    async def look() -> str:
        return "seen"

    result = await agent.run("?", instructions="of the run")
    first, _, second, _ = result.all_messages()
    assert first.instructions == "constant\nof the run\n\ncalled\n\nstep 0"
    assert second.instructions == "constant\nof the run\n\ncalled\n\nstep 1"


async def test_instructions_are_not_kept_from_the_history(says):
    seen = []
    agent = Agent(
        says(lambda m, i: seen.append(i.instructions) or "x", lambda m, i: seen.append(i.instructions) or "y")
    )
    first = await agent.run("?", instructions="old")
    await agent.run("?", message_history=first.all_messages())
    assert seen == ["old", None]


async def test_instructions_may_be_only_texts_and_functions(says):
    with pytest.raises(UserError, match="not 3"):
        await Agent(says("x"), instructions=["a", 3]).run("?")


# ------------------------------------------------------------------ history processors


def keep_last(messages):
    return messages[-1:]


async def keep_last_async(messages):
    return messages[-1:]


def keep_last_with_context(ctx: RunContext, messages):
    assert ctx.run_step > 0
    return messages[-1:]


async def keep_last_async_with_context(ctx: RunContext[None], messages):
    return messages[-1:]


@pytest.mark.parametrize(
    "processor",
    [keep_last, keep_last_async, keep_last_with_context, keep_last_async_with_context, lambda ctx, m: m[-1:]],
)
async def test_history_processors_of_all_kinds(says, processor):
    sent = []
    agent = Agent(says(lambda m, i: sent.append(texts(m)) or "x"), history_processors=[processor])
    result = await agent.run("new", message_history=talk())
    assert sent == [["new"]]
    assert texts(result.all_messages()) == ["new", "x"]
    assert texts(result.new_messages()) == ["new", "x"]


async def test_processors_run_in_order_before_each_request(says, call):
    seen = []

    def first(messages):
        seen.append(("first", len(messages)))
        return [m for m in messages if not (isinstance(m, ModelResponse) and m.text == "answer")]

    def second(messages):
        seen.append(("second", len(messages)))
        return messages

    agent = Agent(says([call("look")], "x"), history_processors=[first, second])

    @agent.tool_plain
    async def look() -> str:
        return "seen"

    result = await agent.run("new", message_history=talk())
    assert seen == [("first", 3), ("second", 2), ("first", 4), ("second", 4)]
    # what is left of the old history, then this run's own
    assert texts(result.new_messages())[0] == "new"
    assert len(result.all_messages()) == 5


async def test_a_summary_is_not_a_new_message(says):
    def summarise(messages):
        return [ModelRequest([UserPromptPart("summary")]), *messages[-1:]]

    result = await Agent(says("x"), history_processors=[summarise]).run("new", message_history=talk())
    assert texts(result.all_messages()) == ["summary", "new", "x"]
    assert texts(result.new_messages()) == ["new", "x"]


async def test_a_processor_that_replaces_everything(says):
    def replace(messages):
        return [ModelRequest([UserPromptPart("something else")])]

    result = await Agent(says("x"), history_processors=[replace]).run("new", message_history=talk())
    assert texts(result.new_messages()) == ["something else", "x"]


async def test_rewriting_raises_the_epoch_and_keeps_the_captured_list(says):
    agent = Agent(says("x"), history_processors=[keep_last])
    with capture_run_messages() as captured:
        async with agent.iter("new", message_history=talk()) as run:
            node = await run.next(run.next_node)
            assert run.history_epoch == 0
            await run.next(node)
            assert run.history_epoch == 1
    assert captured is run.all_messages()
    untouched = Agent(says("x"), history_processors=[lambda messages: messages])
    async with untouched.iter("new") as run:
        async for _ in run:
            pass
    assert run.history_epoch == 0


@pytest.mark.parametrize(
    ("result", "message"),
    [([], "cannot be empty"), ([ModelResponse([TextPart("x")])], "must end with a `ModelRequest`")],
)
async def test_histories_that_cannot_be_sent(says, result, message):
    with pytest.raises(UserError, match=message):
        await Agent(says("x"), history_processors=[lambda _: result]).run("?")


async def test_the_users_list_is_not_the_models(says):
    kept = []
    agent = Agent(
        says(
            lambda m, i: kept.append(m) or [ToolCallPart("look", {}, "c1")],
            lambda m, i: kept.append(m) or "x",
        )
    )

    @agent.tool_plain
    async def look() -> str:
        return "seen"

    result = await agent.run("?")
    assert [len(m) for m in kept] == [1, 3]
    assert kept[1][0] is result.all_messages()[0]


async def test_messages_have_a_time(says):
    result = await Agent(TestModel()).run("?")
    request, response = result.all_messages()
    assert request.parts[0].timestamp <= request.timestamp <= response.timestamp


async def test_the_answers_to_output_tools_are_in_the_history(says, call):
    result = await Agent(says([call("final_result", {"response": 1})]), output_type=int).run("?")
    last = result.all_messages()[-1]
    assert last == ModelRequest(
        [ToolReturnPart("final_result", "Final result processed.", "c1", timestamp=last.parts[0].timestamp)],
        timestamp=last.timestamp,
        run_id=result.run_id,
    )


async def test_a_failed_request_that_processors_had_rewritten_is_in_the_history_once():
    sent = []

    def model(messages, info):
        sent.append(messages)
        if len(sent) == 1:
            raise ModelConnectionError("m", "the line is dead")
        return ModelResponse([TextPart("x")])

    def rewritten(messages):
        return [replace(m, metadata={"seen": True}) if isinstance(m, ModelRequest) else m for m in messages]

    async with Agent(FunctionModel(model), history_processors=[rewritten]).iter("hi") as run:
        node = await run.next(run.next_node)
        with pytest.raises(ModelConnectionError):
            await run.next(node)
        assert run.snapshot().messages == []
        await run.next(node)
    assert [m.kind for m in run.all_messages()] == ["request", "response"]
    assert [len(messages[0].parts) for messages in sent] == [1, 1]
    assert run.ctx.state.run_step == 1
