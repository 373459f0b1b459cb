"""WrapperModel hands on; FallbackModel goes on."""

import pytest
import trio

from runmgr.exceptions import FallbackExceptionGroup, ModelAPIError, ModelHTTPError, UserError
from runmgr.messages import ModelRequest, ModelResponse, TextPart, UserPromptPart
from runmgr.models import ModelProfile, ModelRequestParameters
from runmgr.models.fallback import FallbackModel
from runmgr.models.function import FunctionModel
from runmgr.models.retry import classify, retry_after
from runmgr.models.test import TestModel
from runmgr.models.wrapper import WrapperModel

ASK = [ModelRequest([UserPromptPart("q")])]
PLAIN = ModelRequestParameters()


class Resending(TestModel):
    """Fails twice before it answers, and resends by itself unless it is asked once."""

    def __init__(self, failures=2, **more):
        super().__init__(custom_output_text="answer", **more)
        self.failures = failures
        self.tries = 0
        self.closed = 0

    async def request_once(self, messages, model_settings, model_request_parameters):
        self.tries += 1
        if self.tries <= self.failures:
            raise ModelHTTPError(503, self.model_name)
        return await super().request(messages, model_settings, model_request_parameters)

    async def request(self, messages, model_settings, model_request_parameters):
        for _ in range(2):
            try:
                return await self.request_once(messages, model_settings, model_request_parameters)
            except ModelHTTPError:
                pass
        return await self.request_once(messages, model_settings, model_request_parameters)

    def request_stream_once(self, messages, model_settings, model_request_parameters, run_context=None):
        self.tries += 1
        if self.tries <= self.failures:
            raise ModelHTTPError(503, self.model_name)
        return super().request_stream(messages, model_settings, model_request_parameters, run_context)

    async def count_tokens(self, messages, model_settings, model_request_parameters):
        return "counted"

    async def aclose(self):
        self.closed += 1

    @property
    def base_url(self):
        return "http://localhost/v1"


def failing(messages, info):
    raise ModelHTTPError(500, "failing")


def buggy(messages, info):
    raise ValueError("bug")


async def failing_stream(messages, info):
    raise ModelHTTPError(500, "failing")
    yield ""


async def good_stream(messages, info):
    yield "a"
    yield "b"


FAILING = FunctionModel(failing, stream_function=failing_stream, model_name="failing")
BUGGY = FunctionModel(buggy, model_name="buggy")
GOOD = FunctionModel(
    lambda m, i: ModelResponse([TextPart(f"good {i.model_settings}")]),
    stream_function=good_stream,
    model_name="good",
    settings={"seed": 1},
)


# ------------------------------------------------------------------ wrapper


async def test_a_wrapper_hands_everything_on():
    inner = Resending(settings={"seed": 3}, model_name="gpt-5")
    model = WrapperModel(inner)
    assert model.wrapped is inner
    assert (model.model_name, model.system, model.label) == ("gpt-5", "test", "GPT 5")
    assert model.settings == {"seed": 3}
    assert model.profile is inner.profile
    assert model.base_url == inner.base_url
    assert model.failures == 2
    with pytest.raises(AttributeError, match="nobody"):
        _ = model.nobody
    assert repr(model) == f"WrapperModel(wrapped={inner!r})"
    assert model.prepare_request({"max_tokens": 1}, PLAIN) == ({"seed": 3, "max_tokens": 1}, PLAIN)
    assert model.customize_request_parameters(PLAIN) is PLAIN
    assert (await model.request(ASK, None, PLAIN)).text == "answer"
    assert inner.tries == 3
    assert await model.count_tokens(ASK, None, PLAIN) == "counted"
    async with model:
        pass
    assert inner.closed == 1


async def test_one_try_stays_one_try_through_a_wrapper():
    inner = Resending()
    model = WrapperModel(WrapperModel(inner))
    for tries in (1, 2):
        with pytest.raises(ModelHTTPError):
            await model.request_once(ASK, None, PLAIN)
        assert inner.tries == tries
    assert (await model.request_once(ASK, None, PLAIN)).text == "answer"
    inner.tries = 1
    with pytest.raises(ModelHTTPError):
        async with model.request_stream_once(ASK, None, PLAIN):
            pass
    async with model.request_stream_once(ASK, None, PLAIN) as response:
        assert [event async for event in response][-1].part == TextPart("answer")


async def test_what_a_subclass_overrides_is_not_gone_around():
    class Shouting(WrapperModel):
        async def request(self, messages, model_settings, model_request_parameters):
            response = await super().request(messages, model_settings, model_request_parameters)
            response.parts = [TextPart(response.text.upper())]
            return response

        def request_stream(self, messages, model_settings, model_request_parameters, run_context=None):
            raise ModelHTTPError(418, "shouting")

    model = Shouting(TestModel(custom_output_text="quiet"))
    assert (await model.request(ASK, None, PLAIN)).text == "QUIET"
    assert (await model.request_once(ASK, None, PLAIN)).text == "QUIET"
    with pytest.raises(ModelHTTPError, match="418"):
        model.request_stream_once(ASK, None, PLAIN)


def test_a_wrapper_of_a_string():
    assert isinstance(WrapperModel("test").wrapped, TestModel)


# ----------------------------------------------------------------- fallback


async def test_the_next_model_answers_when_one_fails():
    model = FallbackModel(FAILING, GOOD, BUGGY)
    response = await model.request(ASK, {"max_tokens": 2}, PLAIN)
    assert response.text == "good {'seed': 1, 'max_tokens': 2}"
    assert response.model_name == "good"
    assert model.model_name == "fallback:failing,good,buggy"
    assert model.system == "fallback:function,function,function"
    assert model.models == [FAILING, GOOD, BUGGY]
    assert model.settings is None
    async with model.request_stream(ASK, None, PLAIN) as stream:
        assert stream.model_name == "good"
        assert [event async for event in stream][-1].part == TextPart("ab")


async def test_all_failed():
    model = FallbackModel(FAILING, FAILING)
    with pytest.raises(FallbackExceptionGroup, match="All models from FallbackModel failed") as caught:
        await model.request(ASK, None, PLAIN)
    assert [type(each) for each in caught.value.exceptions] == [ModelHTTPError, ModelHTTPError]
    with pytest.raises(FallbackExceptionGroup):
        async with model.request_stream(ASK, None, PLAIN):
            pass


@pytest.mark.parametrize(
    "fallback_on", [(ValueError,), ValueError, (KeyError, ValueError), lambda error: "bug" in str(error)]
)
async def test_what_is_a_reason_to_go_on(fallback_on):
    assert (
        await FallbackModel(BUGGY, GOOD, fallback_on=fallback_on).request(ASK, None, PLAIN)
    ).model_name == "good"
    # ... and then nothing else is.
    with pytest.raises(ModelHTTPError):
        await FallbackModel(FAILING, GOOD, fallback_on=fallback_on).request(ASK, None, PLAIN)


async def test_by_default_only_the_providers_failures_are():
    with pytest.raises(ValueError, match="bug"):
        await FallbackModel(BUGGY, GOOD).request(ASK, None, PLAIN)

    def unreachable(messages, info):
        raise ModelAPIError("m", "no connection")

    assert (
        await FallbackModel(FunctionModel(unreachable), GOOD).request(ASK, None, PLAIN)
    ).model_name == "good"


@pytest.mark.parametrize("fallback_on", [5, None, (ValueError, 5), int, [ValueError]])
def test_reasons_that_are_none(fallback_on):
    with pytest.raises(UserError, match="fallback_on takes exception types or a function"):
        FallbackModel(GOOD, fallback_on=fallback_on)


async def test_each_model_is_tried_once_where_one_try_is_asked_for():
    first, second = Resending(failures=1), Resending(failures=5, model_name="second")
    model = FallbackModel(first, second)
    with pytest.raises(FallbackExceptionGroup) as caught:
        await model.request_once(ASK, None, PLAIN)
    assert len(caught.value.exceptions) == 2
    assert (first.tries, second.tries) == (1, 1)
    assert (await model.request_once(ASK, None, PLAIN)).model_name == "test"
    assert (first.tries, second.tries) == (2, 1)
    first.tries = 0
    with pytest.raises(FallbackExceptionGroup):
        async with model.request_stream_once(ASK, None, PLAIN):
            pass
    async with model.request_stream_once(ASK, None, PLAIN) as response:
        assert response.model_name == "test"


async def test_with_request_each_model_resends_by_itself_first():
    first, second = Resending(failures=3), Resending(failures=2, model_name="second")
    assert (await FallbackModel(first, second).request(ASK, None, PLAIN)).model_name == "second"
    assert (first.tries, second.tries) == (3, 3)


async def test_each_model_prepares_for_itself():
    limited = FunctionModel(lambda m, i: None, profile=ModelProfile())
    native = ModelRequestParameters(output_mode="native")
    with pytest.raises(UserError, match="Native structured output"):
        await FallbackModel(limited, GOOD).request(ASK, None, native)
    model = FallbackModel(limited, GOOD, fallback_on=UserError)
    assert (await model.request(ASK, None, native)).model_name == "good"
    assert model.prepare_request(None, native) == (None, native)
    assert model.customize_request_parameters(native) is native
    with pytest.raises(NotImplementedError, match="does not have its own model profile"):
        _ = model.profile


async def test_a_stream_that_is_open_does_not_fall_back():
    async def breaks(messages, info):
        yield "a"
        raise ModelHTTPError(500, "breaks")

    events = []
    with pytest.raises(ModelHTTPError):
        async with FallbackModel(FunctionModel(stream_function=breaks), GOOD).request_stream(
            ASK, None, PLAIN
        ) as response:
            async for event in response:
                events.append(event)  # noqa: PERF401 (what comes before the failure)
    assert events[0].part == TextPart("a")


async def test_cancellation_is_no_failure(autojump_clock):
    async def slow(messages, info):
        await trio.sleep(10)

    asked = []
    model = FallbackModel(
        FunctionModel(slow), FunctionModel(lambda m, i: asked.append(1)), fallback_on=(Exception,)
    )
    with trio.move_on_after(1) as scope:
        await model.request(ASK, None, PLAIN)
    assert scope.cancelled_caught
    assert not asked


@pytest.mark.parametrize(
    ("failures", "again", "wait"),
    [
        ([ModelHTTPError(400, "a"), ModelHTTPError(401, "b")], False, None),
        ([ModelHTTPError(400, "a"), ModelHTTPError(503, "b")], True, None),
        ([ModelHTTPError(429, "a", headers={"retry-after": "9"}), ModelHTTPError(400, "b")], True, 9.0),
        (
            [
                ModelHTTPError(429, "a", headers={"retry-after": "9"}),
                ModelHTTPError(429, "b", headers={"retry-after": "4"}),
            ],
            True,
            4.0,
        ),
        ([ModelHTTPError(429, "a", headers={"retry-after": "9"}), ModelHTTPError(503, "b")], True, None),
    ],
)
def test_when_all_that_failed_may_be_asked_again(failures, again, wait):
    group = FallbackExceptionGroup("All models from FallbackModel failed", failures)
    assert (classify(group) is not None) is again
    assert retry_after(group) == wait


async def test_counting_and_closing():
    first, second = Resending(), Resending()
    async with FallbackModel(first, second) as model:
        assert model.base_url == "http://localhost/v1"
        assert await model.count_tokens(ASK, None, PLAIN) == "counted"
    assert (first.closed, second.closed) == (1, 1)
    await model.aclose()
    assert (first.closed, second.closed) == (2, 2)


async def test_all_are_closed_also_when_one_cannot_be():
    class Broken(TestModel):
        async def aclose(self):
            raise OSError("broken")

    last = Resending()
    with pytest.raises(OSError, match="broken"):
        await FallbackModel(Broken(), last).aclose()
    with pytest.raises(OSError, match="broken"):
        async with FallbackModel(Broken(), last):
            pass
    assert last.closed == 2

    class Unopened(TestModel):
        async def __aenter__(self):
            raise OSError("unopened")

    with pytest.raises(OSError, match="unopened"):
        async with FallbackModel(last, Unopened()):
            pass
    assert last.closed == 3


def test_models_by_string():
    assert isinstance(FallbackModel("test", "test").models[1], TestModel)
