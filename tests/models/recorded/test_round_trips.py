"""There and back: an answer of a provider, whole and streamed, becomes our parts, and these become the next request's history.

What the references demand of that request is checked: every call has its result, in the next message, under its id; thoughts go back
with their signatures, ids and order; nothing is empty.

- https://docs.claude.com/en/docs/agents-and-tools/tool-use/implement-tool-use#handling-tool-use-and-tool-result-content-blocks
- https://docs.claude.com/en/docs/build-with-claude/extended-thinking#preserving-thinking-blocks
- https://platform.openai.com/docs/guides/function-calling, https://platform.openai.com/docs/guides/reasoning#keeping-reasoning-items-in-context
- https://ai.google.dev/gemini-api/docs/thought-signatures, https://ai.google.dev/gemini-api/docs/function-calling
"""

import importlib.util
import json
from pathlib import Path

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from runmgr.messages import (
    ModelMessagesTypeAdapter,
    ModelRequest,
    RetryPromptPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from runmgr.models import ModelRequestParameters
from runmgr.models.retry import NO_RETRY

_spec = importlib.util.spec_from_file_location(
    "runmgr_tests_recorded", Path(__file__).with_name("test_recorded.py")
)
recorded = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(recorded)
TIMES = recorded.TIMES

# ---------------------------------------------------------------- what a model said

TEXT = st.text(min_size=1, max_size=6).filter(lambda text: text.strip() and "<" not in text)
SIGNATURE = st.sampled_from(["QUJD", "RURG", "Zm9vYmFy"])
JSON = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=4)
ARGS = st.dictionaries(st.text(min_size=1, max_size=3), JSON | st.lists(JSON, max_size=2), max_size=3)
THINK = st.tuples(st.just("think"), TEXT, SIGNATURE)
SAY = st.tuples(st.just("say"), TEXT)
CALL = st.tuples(st.just("call"), st.sampled_from(["look", "go"]), ARGS)


@st.composite
def said(draw):
    """Blocks in the order that models have them: thoughts, text, calls; calls have ids of their own."""
    blocks = draw(st.lists(THINK, max_size=2)) + draw(st.lists(SAY, max_size=1))
    calls = draw(st.lists(CALL, min_size=0 if blocks else 1, max_size=3))
    return blocks + [("call", f"id_{number}", name, args) for number, (_, name, args) in enumerate(calls)]


def cut(text, at):
    at %= len(text) + 1
    return [piece for piece in (text[:at], text[at:]) if piece]


# ---------------------------------------------------------------- as each API puts it: whole, and as events


def anthropic(blocks, at):
    content, events = [], [{"type": "message_start", "message": {"id": "m", "model": "c", "content": []}}]
    for index, (kind, *rest) in enumerate(blocks):
        if kind == "think":
            block = {"type": "thinking", "thinking": rest[0], "signature": rest[1]}
            begun = {"type": "thinking", "thinking": "", "signature": ""}
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in cut(rest[0], at)]
            deltas.append({"type": "signature_delta", "signature": rest[1]})
        elif kind == "say":
            block, begun = {"type": "text", "text": rest[0]}, {"type": "text", "text": ""}
            deltas = [{"type": "text_delta", "text": piece} for piece in cut(rest[0], at)]
        else:
            block = {"type": "tool_use", "id": rest[0], "name": rest[1], "input": rest[2]}
            begun = block | {"input": {}}
            deltas = [
                {"type": "input_json_delta", "partial_json": piece} for piece in cut(json.dumps(rest[2]), at)
            ]
        content.append(block)
        events.append({"type": "content_block_start", "index": index, "content_block": begun})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    events.append(
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}}
    )
    events.append({"type": "message_stop"})
    return {"id": "m", "model": "c", "content": content, "stop_reason": "end_turn"}, events


def openai(blocks, at):
    message, events = {"role": "assistant", "content": None}, []

    def more(delta):
        events.append({"id": "m", "choices": [{"index": 0, "delta": delta}]})

    thoughts = "".join(rest[0] for kind, *rest in blocks if kind == "think")
    if thoughts:
        message["reasoning_content"] = thoughts
        for piece in cut(thoughts, at):
            more({"reasoning_content": piece})
    calls = [rest for kind, *rest in blocks if kind == "call"]
    for kind, *rest in blocks:
        if kind == "say":
            message["content"] = rest[0]
            for piece in cut(rest[0], at):
                more({"content": piece})
    for index, (call_id, name, args) in enumerate(calls):
        text = json.dumps(args)
        function = {"name": name, "arguments": text}
        message.setdefault("tool_calls", []).append({"id": call_id, "type": "function", "function": function})
        more({"tool_calls": [{"index": index, "id": call_id, "function": {"name": name, "arguments": ""}}]})
        for piece in cut(text, at):
            more({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    events.append({"id": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return {"id": "m", "choices": [{"message": message, "finish_reason": "stop"}]}, [
        *events,
        "data: [DONE]\n\n",
    ]


def responses(blocks, at):
    output, events = [], []
    for index, (kind, *rest) in enumerate(blocks):
        item_id = f"item_{index}"
        place = {"item_id": item_id, "output_index": index}
        if kind == "think":
            item = {"type": "reasoning", "id": item_id, "encrypted_content": rest[1]}
            begun, item = (
                item | {"summary": []},
                item | {"summary": [{"type": "summary_text", "text": rest[0]}]},
            )
            deltas = [
                {"type": "response.reasoning_summary_text.delta", "summary_index": 0, "delta": piece}
                for piece in cut(rest[0], at)
            ]
        elif kind == "say":
            item = {"type": "message", "id": item_id, "role": "assistant", "status": "completed"}
            begun, item = (
                item | {"content": []},
                item | {"content": [{"type": "output_text", "text": rest[0], "annotations": []}]},
            )
            deltas = [{"type": "response.output_text.delta", "delta": piece} for piece in cut(rest[0], at)]
        else:
            text = json.dumps(rest[2])
            item = {
                "type": "function_call",
                "id": item_id,
                "call_id": rest[0],
                "name": rest[1],
                "arguments": text,
            }
            begun = item | {"arguments": ""}
            deltas = [
                {"type": "response.function_call_arguments.delta", "delta": piece} for piece in cut(text, at)
            ]
        output.append(item)
        events.append({"type": "response.output_item.added", "output_index": index, "item": begun})
        events += [delta | place for delta in deltas]
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    answer = {"id": "m", "status": "completed", "output": output}
    return answer, [*events, {"type": "response.completed", "response": answer}]


def google(blocks, at):
    parts, pieces = [], []
    for kind, *rest in blocks:
        if kind == "think":
            parts.append({"text": rest[0], "thought": True})
            pieces += [{"text": piece, "thought": True} for piece in cut(rest[0], at)]
        elif kind == "say":
            parts.append({"text": rest[0]})
            pieces += [{"text": piece} for piece in cut(rest[0], at)]
        else:
            # the first call of a step has the signature
            signed = {} if any("functionCall" in part for part in parts) else {"thoughtSignature": "QUJD"}
            parts.append({"functionCall": {"id": rest[0], "name": rest[1], "args": rest[2]}} | signed)
            pieces.append(parts[-1])

    def answer(parts, **more):
        return {"candidates": [{"content": {"role": "model", "parts": parts}} | more], "responseId": "m"}

    return answer(parts, finishReason="STOP"), [
        *(answer([piece]) for piece in pieces),
        answer([], finishReason="STOP"),
    ]


SAID_BY = {"anthropic": anthropic, "openai": openai, "responses": responses, "google": google}


class Listening(recorded.Canned):
    """Keeps what it was sent."""

    async def post(self, path, body, headers=None, timeouts=None):
        self.sent = json.loads(body)
        return await super().post(path, body, headers, timeouts)


async def next_request(api, messages):
    answer, _ = SAID_BY[api]([("say", "done")], 0)
    client = Listening(200, {"content-type": "application/json"}, [json.dumps(answer).encode()])
    cls, name, provider = recorded.MODELS[api]
    model = cls(
        name, provider=recorded.CannedProvider(provider, client, recorded.profile_of(api)), retry=NO_RETRY
    )
    await model.request_once(messages, None, ModelRequestParameters())
    return client.sent


def told(response):
    """The parts that a program sees, however they came: arguments as objects."""
    seen = []
    for part in response.parts:
        if isinstance(part, ToolCallPart):
            seen.append(("call", part.tool_call_id, part.tool_name, part.args_as_dict()))
        else:
            seen.append(
                (
                    type(part).__name__,
                    part.content,
                    part.id,
                    getattr(part, "signature", None),
                    part.provider_details,
                )
            )
    return seen


def merged(seen):
    """Neighbours of one kind as one: a stream of Gemini's has no borders between its texts, nor between its thoughts."""
    joined = []
    for one in seen:
        if joined and one[0] != "call" and joined[-1][0] == one[0] and joined[-1][2:] == one[2:]:
            joined[-1] = (one[0], joined[-1][1] + one[1], *one[2:])
        else:
            joined.append(one)
    return joined


@given(
    st.sampled_from(sorted(SAID_BY)),
    st.lists(said(), min_size=1, max_size=3),
    st.integers(0, 50),
    st.booleans(),
)
@settings(max_examples=120 * TIMES, deadline=None)
def test_there_and_back(api, turns, at, failed):
    history, expected = [ModelRequest([UserPromptPart("q")])], []
    for number, blocks in enumerate(turns):
        # ids are an API's own, and never come twice
        blocks = [
            (kind, f"{number}_{rest[0]}", *rest[1:]) if kind == "call" else (kind, *rest)
            for kind, *rest in blocks
        ]
        answer, events = SAID_BY[api](blocks, at)
        whole = trio.run(recorded.ask, {"api": api, "answer": answer})
        streamed = trio.run(recorded.ask, {"api": api, "events": events})
        same = merged if api == "google" else list
        assert same(told(streamed)) == same(told(whole))
        calls = [part for part in whole.parts if isinstance(part, ToolCallPart)]
        assert [(c.tool_call_id, c.tool_name, c.args_as_dict()) for c in calls] == [
            (block[1], block[2], block[3]) for block in blocks if block[0] == "call"
        ]
        history.append(streamed if number % 2 else whole)
        history.append(
            ModelRequest(
                [
                    RetryPromptPart("no", tool_name=c.tool_name, tool_call_id=c.tool_call_id)
                    if failed and not index
                    else ToolReturnPart(c.tool_name, {"n": index}, c.tool_call_id)
                    for index, c in enumerate(calls)
                ]
                or [UserPromptPart("go on")]
            )
        )
        expected.append(blocks)
    # through a journal and back, nothing gets lost
    history = ModelMessagesTypeAdapter.validate_json(ModelMessagesTypeAdapter.dump_json(history))
    DEMANDS[api](trio.run(next_request, api, history), expected, failed)


# ---------------------------------------------------------------- what each API demands of the next request


def demand_anthropic(sent, turns, failed):
    messages = sent["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"] * len(turns) + ["user"]
    for number, blocks in enumerate(turns):
        said, answered = messages[1 + 2 * number]["content"], messages[2 + 2 * number]["content"]
        wanted, _ = anthropic(blocks, 0)
        assert said == wanted["content"]
        # results stand first in the message, every one of them
        calls = [block[1] for block in blocks if block[0] == "call"]
        assert [block["tool_use_id"] for block in answered if block["type"] == "tool_result"] == calls
        assert all(block["content"] for block in answered if calls)
        assert [block["is_error"] for block in answered if calls] == [
            failed and not index for index in range(len(calls))
        ]
        assert calls or answered == [{"type": "text", "text": "go on"}]


def demand_openai(sent, turns, failed):
    messages = sent["messages"][1:]
    for blocks in turns:
        said = messages.pop(0)
        wanted = openai(blocks, 0)[0]["choices"][0]["message"]
        # OpenAI takes no thoughts back; they go as text, between tags
        thoughts = wanted.pop("reasoning_content", None)
        texts = [f"<think>\n{thoughts}\n</think>"] * bool(thoughts) + [wanted["content"]] * bool(
            wanted["content"]
        )
        wanted["content"] = "\n\n".join(texts) or None
        made = wanted.get("tool_calls", [])
        for call in (*made, *said.get("tool_calls", [])):
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
        assert {"content": None} | said == wanted
        for call in made:
            answered = messages.pop(0)
            assert (answered["role"], answered["tool_call_id"]) == ("tool", call["id"])
            assert answered["content"]
            assert isinstance(answered["content"], str)
        assert made or messages.pop(0) == {"role": "user", "content": "go on"}
    assert not messages


def demand_responses(sent, turns, failed):
    assert "reasoning.encrypted_content" in sent["include"]
    items = sent["input"][1:]
    for blocks in turns:
        wanted = responses(blocks, 0)[0]["output"]
        said = [items.pop(0) for _ in wanted]
        for item in (*wanted, *said):
            if item["type"] == "function_call":
                item["arguments"] = json.loads(item["arguments"])
        assert said == wanted
        calls = [block[1] for block in blocks if block[0] == "call"]
        for call_id in calls:
            item = items.pop(0)
            assert (item["type"], item["call_id"]) == ("function_call_output", call_id)
            assert item["output"]
        assert calls or items.pop(0) == {"role": "user", "content": "go on"}
    assert not items


def demand_google(sent, turns, failed):
    contents = sent["contents"][1:]
    assert [content["role"] for content in contents] == ["model", "user"] * len(turns)
    for number, blocks in enumerate(turns):
        said, answered = contents[2 * number]["parts"], contents[2 * number + 1]["parts"]
        wanted = google(blocks, 0)[0]["candidates"][0]["content"]["parts"]
        assert neighbours(said) == neighbours(wanted)
        calls = [block[1:3] for block in blocks if block[0] == "call"]
        results = [part["functionResponse"] for part in answered if "functionResponse" in part]
        assert [(result["id"], result["name"]) for result in results] == calls
        assert all(result["response"] for result in results)
        assert calls or answered == [{"text": "go on"}]


def neighbours(parts):
    """Texts that follow one another, and thoughts, as one: those of a stream have no borders."""
    joined = []
    for part in parts:
        last = joined[-1] if joined else {}
        if "text" in part and "text" in last and part.get("thought") == last.get("thought"):
            joined[-1] = last | {"text": last["text"] + part["text"]}
        else:
            joined.append(part)
    return joined


DEMANDS = {
    "anthropic": demand_anthropic,
    "openai": demand_openai,
    "responses": demand_responses,
    "google": demand_google,
}
