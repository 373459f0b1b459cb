"""The models' door to OpenTelemetry: the only file of theirs that imports it, and only when somebody traces.

Names and units are those of the GenAI semantic conventions.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import trio

from runmgr.exceptions import (
    MalformedResponseError,
    ModelHTTPError,
    ModelRetry,
    ToolRetryError,
    UnexpectedModelBehavior,
)

if TYPE_CHECKING:
    from opentelemetry.metrics import Histogram, MeterProvider
    from opentelemetry.trace import Span, Tracer, TracerProvider

__all__ = ("Meters", "client_span", "current_span", "is_heard", "make_meters", "make_tracer", "note_failure")

# Boundaries that the conventions recommend.
_TOKEN_BUCKETS = tuple(4**power for power in range(14))
_SECOND_BUCKETS = tuple(0.01 * 2**power for power in range(14))


def current_span() -> Span | None:
    """The span around the caller; None where nothing has imported OpenTelemetry, so that nothing can have a span."""
    trace = sys.modules.get("opentelemetry.trace")
    return None if trace is None else trace.get_current_span()


def make_tracer(provider: TracerProvider | None) -> Tracer:
    """The tracer of this package, from a provider, or from the global one."""
    from opentelemetry.trace import get_tracer_provider

    return (provider or get_tracer_provider()).get_tracer("runmgr", _version())


@cache
def _global_providers() -> tuple[
    Callable[[], TracerProvider], Callable[[], MeterProvider], Callable[[], bool]
]:
    """What gives the global providers, and whether neither is set: each run asks that, and the API looks into the environment
    each time as long as none is. So does this, once: providers that the environment names are set from then on. Where a version of
    the API keeps them elsewhere, its own functions are asked each time.
    """
    from opentelemetry.metrics import get_meter_provider
    from opentelemetry.trace import get_tracer_provider

    get_tracer_provider()
    get_meter_provider()
    tracing: dict[str, Any] = getattr(get_tracer_provider, "__globals__", {})
    metering: dict[str, Any] = getattr(get_meter_provider, "__globals__", {})

    def are_unset() -> bool:
        return (
            tracing.get("_TRACER_PROVIDER", tracing) is None
            and metering.get("_METER_PROVIDER", metering) is None
        )

    return get_tracer_provider, get_meter_provider, are_unset


def is_heard(tracers: TracerProvider | None, meters: MeterProvider | None) -> bool:
    """Whether spans or measurements would reach anybody: not where only OpenTelemetry's API is there and nothing that records.

    Args:
        tracers: makes the spans; None: the global provider, as it is now.
        meters: likewise of the measurements.
    """
    tracers_now, meters_now, are_unset = _global_providers()
    if tracers is None and meters is None and are_unset():
        return False
    if not type(tracers or tracers_now()).__module__.startswith("opentelemetry.trace"):
        return True
    return _is_real(meters or meters_now())


class Meters:
    """What model requests are measured with.

    Attributes:
        tokens: tokens by type.
        cost: US dollars by token type.
        duration: seconds a request took.
    """

    __slots__ = ("_provider", "cost", "duration", "tokens")

    def __init__(
        self, provider: MeterProvider, tokens: Histogram, cost: Histogram, duration: Histogram
    ) -> None:
        self._provider = provider
        self.tokens = tokens
        self.cost = cost
        self.duration = duration

    def listening(self) -> bool:
        """Whether a measurement would be seen by anybody: what only serves measurements is left out if not."""
        from opentelemetry.metrics import get_meter_provider

        return _is_real(self._provider) or _is_real(get_meter_provider())


def _is_real(provider: object) -> bool:
    # The API's own providers only stand in until somebody configures one.
    return not type(provider).__module__.startswith("opentelemetry.metrics")


def make_meters(provider: MeterProvider | None) -> Meters:
    """The instruments of this package, from a provider, or from the global one."""
    from opentelemetry.metrics import get_meter_provider

    provider = provider or get_meter_provider()
    meter = provider.get_meter("runmgr", _version())
    return Meters(
        provider,
        meter.create_histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="Measures number of input and output tokens used",
            explicit_bucket_boundaries_advisory=_TOKEN_BUCKETS,
        ),
        meter.create_histogram("operation.cost", unit="{USD}", description="Monetary cost"),
        meter.create_histogram(
            "gen_ai.client.operation.duration",
            unit="s",
            description="Duration of GenAI operation",
            explicit_bucket_boundaries_advisory=_SECOND_BUCKETS,
        ),
    )


@contextmanager
def client_span(
    tracer: Tracer, name: str, attributes: dict[str, Any], *, include_content: bool
) -> Generator[Span]:
    """A span of a call to somebody else, current within the block; a failure or cancellation is noted on it."""
    from opentelemetry.trace import SpanKind

    with tracer.start_as_current_span(
        name,
        attributes=attributes,
        kind=SpanKind.CLIENT,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield span
        except (Exception, trio.Cancelled) as failure:
            note_failure(span, failure, include_content=include_content)
            raise


def note_failure(span: Span, error: BaseException, *, include_content: bool) -> None:
    """Write on a span why it failed: status, type, and the exception with its traceback.

    Without content, what quotes a model or a provider (arguments, an answer, the body of an error, which may echo the
    prompt) is left out: the text of such an exception, and the traceback of any that such an exception led to.
    """
    from opentelemetry.trace import Status, StatusCode

    kind = type(error)
    span.set_attribute("error.type", f"{kind.__module__}.{kind.__qualname__}")
    if isinstance(error, Exception) and (include_content or not any(map(_quotes, _chain(error)))):
        span.record_exception(error, escaped=True)
    text = f"{kind.__name__}: {error}"
    if not include_content and _quotes(error):
        text = kind.__name__
        if isinstance(error, ModelHTTPError):
            text += f": status_code: {error.status_code}, model_name: {error.model_name}"
    span.set_status(Status(StatusCode.ERROR, text))


def _chain(error: BaseException) -> Generator[BaseException]:
    """An exception and those that its traceback shows with it."""
    seen: set[int] = set()
    shown: list[BaseException | None] = [error]
    while shown:
        following = shown.pop()
        if following is None or id(following) in seen:
            continue
        yield following
        seen.add(id(following))
        shown.append(following.__cause__ or following.__context__)
        if isinstance(following, BaseExceptionGroup):
            shown.extend(cast("BaseExceptionGroup[BaseException]", following).exceptions)


def _quotes(error: BaseException) -> bool:
    """Whether an exception's text holds what a model or a provider wrote."""
    from pydantic import ValidationError

    return isinstance(error, (ToolRetryError, ModelRetry, ValidationError, MalformedResponseError)) or (
        isinstance(error, (UnexpectedModelBehavior, ModelHTTPError)) and error.body is not None
    )


def _version() -> str:
    from runmgr import __version__

    return __version__
