"""Requests without an agent, in trio and out of it."""

import threading

import pytest
import trio

from runmgr.direct import model_request, model_request_stream, model_request_stream_sync, model_request_sync
from runmgr.exceptions import ModelHTTPError, UserError
from runmgr.messages import ModelRequest, ModelResponse, PartDeltaEvent, TextPart, ToolCallPart
from runmgr.models import ModelRequestParameters, ToolDefinition
from runmgr.models.function import FunctionModel
from runmgr.models.instrumented import InstrumentationSettings
from runmgr.models.test import TestModel

ASK = [ModelRequest.user_text_prompt("q")]


class Closing(TestModel):
    closed = 0

    async def aclose(self):
        Closing.closed += 1


async def three(messages, info):
    for word in ("a ", "b ", "c"):
        yield word


THREE = FunctionModel(stream_function=three)


async def test_request():
    assert (await model_request("test", ASK)).text == "success (no tool calls)"
    params = ModelRequestParameters(function_tools=[ToolDefinition(name="f")])
    response = await model_request(TestModel(), tuple(ASK), model_request_parameters=params)
    assert response.parts == [ToolCallPart("f", {}, tool_call_id="pyd_ai_tool_call_id__f")]
    seen = []
    model = FunctionModel(lambda m, i: seen.append(i.model_settings) or ModelResponse([TextPart("x")]))
    await model_request(model, ASK, model_settings={"seed": 1}, instrument=InstrumentationSettings())
    assert seen == [{"seed": 1}]


async def test_ones_own_model_is_ones_own_to_close(monkeypatch):
    monkeypatch.setattr(Closing, "closed", 0)
    await model_request(Closing(), ASK)
    async with model_request_stream(Closing(), ASK):
        pass
    assert Closing.closed == 0
    monkeypatch.setattr("runmgr.direct.infer_model", lambda model: Closing())
    await model_request("some string", ASK)
    assert Closing.closed == 1
    async with model_request_stream("some string", ASK) as response:
        assert [event async for event in response]
    assert Closing.closed == 2


async def test_stream():
    async with model_request_stream(THREE, ASK) as response:
        assert [e.delta.content_delta async for e in response if isinstance(e, PartDeltaEvent)] == ["b ", "c"]
    assert response.get().text == "a b c"


def test_request_sync(monkeypatch):
    monkeypatch.setattr(Closing, "closed", 0)
    assert model_request_sync("test", ASK).text == "success (no tool calls)"
    # The loop ends with the request, and so do the connections that were opened in it.
    assert model_request_sync(Closing(), ASK).text == "success (no tool calls)"
    assert Closing.closed == 1


def test_stream_sync():
    with model_request_stream_sync(THREE, ASK) as response:
        assert response.model_name == "function::three"
        assert response.get().parts == []
        seen = []
        for event in response:
            seen.append(event)
            if len(seen) == 1:
                # Nothing is read ahead.
                assert response.response.text == "a "
                assert response.usage().output_tokens == 1
        assert response.response.text == "a b c"
        assert response.timestamp == response.get().timestamp
        assert list(response) == []
    assert [type(event).__name__ for event in seen] == [
        "PartStartEvent", "FinalResultEvent", "PartDeltaEvent", "PartDeltaEvent", "PartEndEvent"
    ]  # fmt: skip
    assert list(response) == []
    with pytest.raises(UserError, match="can be entered once"), response:
        pass


def test_a_sync_stream_left_early_ends_its_thread():
    closed = []

    async def endless(messages, info):
        try:
            while True:
                yield "x"
        finally:
            closed.append(trio.current_effective_deadline())

    before = threading.active_count()
    with model_request_stream_sync(FunctionModel(stream_function=endless), ASK) as response:
        for _ in response:
            break
    assert len(closed) == 1
    assert threading.active_count() <= before


def test_leaving_a_sync_stream_does_not_wait_for_the_next_piece():
    async def stuck(messages, info):
        yield "x"
        await trio.sleep_forever()

    class Enough(Exception):
        pass

    with (
        pytest.raises(Enough),
        model_request_stream_sync(FunctionModel(stream_function=stuck), ASK) as response,
    ):
        events = iter(response)
        next(events)
        raise Enough


def test_errors_of_a_sync_stream():
    async def breaks(messages, info):
        yield "a"
        raise ModelHTTPError(500, "breaks")

    with model_request_stream_sync(FunctionModel(stream_function=breaks), ASK) as response:
        events = iter(response)
        next(events)
        next(events)
        with pytest.raises(ModelHTTPError):
            next(events)
        assert response.get().text == "a"
        assert list(response) == []
    with pytest.raises(AssertionError, match="must receive a `stream_function`"):
        with model_request_stream_sync(FunctionModel(lambda m, i: None), ASK):
            pass


def test_outside_its_block_a_sync_stream_is_not_open():
    response = model_request_stream_sync("test", ASK)
    for use in (lambda: next(iter(response)), response.get, response.usage, lambda: response.model_name):
        with pytest.raises(RuntimeError, match="must be used as a context manager"):
            use()
    assert "not open" in repr(response)


async def test_sync_forms_inside_trio_say_what_to_call_instead():
    with pytest.raises(UserError, match="await model_request"):
        model_request_sync("test", ASK)
    with (
        pytest.raises(UserError, match="async with model_request_stream"),
        model_request_stream_sync("test", ASK),
    ):
        pass
