"""What a run tells the functions that it calls: tools, instructions, validators, toolsets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, cast

from typing_extensions import TypeVar

from runmgr.records.definitions import repr_without_defaults

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from runmgr.messages import ModelMessage, UserContent
    from runmgr.models.base import Model
    from runmgr.settings import ModelSettings
    from runmgr.usage import RunUsage

__all__ = ("RunContext", "RunContextAgentDepsT", "RunParts")

RunContextAgentDepsT = TypeVar("RunContextAgentDepsT", default=None, covariant=True)  # noqa: PLC0105 (a documented name)


class _NoTracer:
    """Stands for OpenTelemetry's tracer that records nothing, and imports it when somebody uses it."""

    def __getattr__(self, name: str) -> Any:
        from opentelemetry.trace import NoOpTracer

        return getattr(NoOpTracer(), name)


_WHEN_ASKED = frozenset({"supervisor", "abandoned_threads"})
_NO_TRACER = cast("Tracer", _NoTracer())


def no_tracer() -> Tracer:
    """The tracer of runs that are not instrumented."""
    return _NO_TRACER


class RunParts(Protocol):
    """Of a run: what its contexts are given when they are first asked for it."""

    @property
    def supervisor(self) -> Any:
        """See `RunContext`."""
        ...

    @property
    def abandoned_threads(self) -> list[str]:
        """See `RunContext`."""
        ...


class _OfRun:
    __slots__ = ("_run",)

    _run: RunParts | None


@dataclass(repr=False, kw_only=True, slots=True)
class RunContext(_OfRun, Generic[RunContextAgentDepsT]):
    """The context of a call that a run makes.

    One context lives as long as its run and is updated in place from step to step; a tool call gets a copy of its
    own, so that parallel calls do not see each other's names and counts.

    Args:
        deps: the run's dependencies.
        model: the model that the run uses.
        usage: what the run has used so far; hand it to a sub-agent as ``usage=ctx.usage`` to count that here.
        prompt: the prompt that the run was started with.
        messages: the conversation so far.
        validation_context: given to pydantic validators as ``info.context``.
        tracer: records spans.
        trace_include_content: whether spans hold prompts, arguments and results.
        instrumentation_version: which names spans use.
        retries: consecutive failures by tool name.
        tool_call_id: the id of the call that this context belongs to.
        tool_name: the name of the tool that is called.
        retry: how many times this tool, or the output, has failed in a row.
        max_retries: how many times it may.
        run_step: number of model requests so far, this one included.
        tool_call_approved: whether a person has approved this call.
        tool_call_metadata: what ``DeferredToolResults.metadata`` holds for this call.
        partial_output: whether the output is still being streamed: do nothing irreversible.
        run_id: the run's id.
        metadata: the run's metadata.
        model_settings: the merged settings of the current request.
        supervisor: the supervisor that the run belongs to, or None.
        abandoned_threads: names of sync functions whose threads outlived a cancellation and were left behind.
    """

    deps: RunContextAgentDepsT
    model: Model
    usage: RunUsage
    prompt: str | Sequence[UserContent] | None = None
    messages: list[ModelMessage] = field(default_factory=list["ModelMessage"])
    validation_context: Any = None
    tracer: Tracer = field(default_factory=no_tracer)
    trace_include_content: bool = False
    instrumentation_version: int = 2
    retries: dict[str, int] = field(default_factory=dict[str, int])
    tool_call_id: str | None = None
    tool_name: str | None = None
    retry: int = 0
    max_retries: int = 0
    run_step: int = 0
    tool_call_approved: bool = False
    tool_call_metadata: Any = None
    partial_output: bool = False
    run_id: str | None = None
    metadata: dict[str, Any] | None = None
    model_settings: ModelSettings | None = None
    supervisor: Any = None
    abandoned_threads: list[str] = field(default_factory=list[str], repr=False)

    def __post_init__(self) -> None:
        self._run = None

    @classmethod
    def of_run(cls, run: RunParts) -> RunContext[Any]:
        """A context whose `supervisor` and `abandoned_threads` are the run's, made when somebody looks at them; the other
        fields are yet to be set.
        """
        new: RunContext[Any] = object.__new__(cls)
        new._run = run
        return new

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:  # only called for what is not set
            if name in _WHEN_ASKED and self._run is not None:
                value = getattr(self._run, name)
                setattr(self, name, value)
                return value
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def last_attempt(self) -> bool:
        """Whether another failure of this tool or output fails the run."""
        return self.retry == self.max_retries

    def copied(self) -> RunContext[RunContextAgentDepsT]:
        """A shallow copy, several times faster than ``dataclasses.replace``: made once a tool call."""
        new: RunContext[RunContextAgentDepsT] = object.__new__(RunContext)  # pyright: ignore[reportAssignmentType]
        run = new._run = self._run
        if run is None:
            new.supervisor = self.supervisor
            new.abandoned_threads = self.abandoned_threads
        new.deps = self.deps
        new.model = self.model
        new.usage = self.usage
        new.prompt = self.prompt
        new.messages = self.messages
        new.validation_context = self.validation_context
        new.tracer = self.tracer
        new.trace_include_content = self.trace_include_content
        new.instrumentation_version = self.instrumentation_version
        new.retries = self.retries
        new.tool_call_id = self.tool_call_id
        new.tool_name = self.tool_name
        new.retry = self.retry
        new.max_retries = self.max_retries
        new.run_step = self.run_step
        new.tool_call_approved = self.tool_call_approved
        new.tool_call_metadata = self.tool_call_metadata
        new.partial_output = self.partial_output
        new.run_id = self.run_id
        new.metadata = self.metadata
        new.model_settings = self.model_settings
        return new

    def __repr__(self) -> str:
        return repr_without_defaults(self)
