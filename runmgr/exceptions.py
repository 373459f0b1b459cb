"""Every exception that runmgr raises on purpose.

The tree (names above the line are those of Pydantic AI, with the same meaning)::

    Exception
    ├── ModelRetry                      a tool or validator asks the model to try again
    ├── CallDeferred                    a tool's result comes later, from outside
    ├── ApprovalRequired                a tool call waits for a person
    ├── ToolRetryError                  internal: carries the retry prompt of a failed call
    ├── RuntimeError
    │   ├── UserError                   the program that uses runmgr made a mistake
    │   │   └── InputError              a file, a line or an argument of a command is wrong
    │   └── AgentRunError               a run failed
    │       ├── UsageLimitExceeded
    │       │   └── BudgetExhausted     a request can no longer fit a hard budget
    │       ├── ToolInterrupted         a tool that may not be repeated was running when its process ended
    │       ├── UnexpectedModelBehavior
    │       │   ├── ContentFilterError
    │       │   └── IncompleteToolCall
    │       └── ModelAPIError           the provider failed
    │           ├── ModelHTTPError      ... with a status
    │           ├── ModelConnectionError   ... before or without an answer
    │           ├── ModelTimeoutError      ... too slowly
    │           └── MalformedResponseError ... with a body cut short or not JSON
    ├── ExceptionGroup
    │   └── FallbackExceptionGroup      every model of a FallbackModel failed
    └── RunmgrError ---------------------------------------------------------
        ├── RunFailed                   ``handle.result()`` of a run that failed
        ├── RunCancelled                ``handle.result()`` of a run that was cancelled
        ├── RunEnded                    a command reached a run that had already ended
        ├── SupervisorClosed            a submission came after the supervisor stopped admitting
        ├── TooManyFailures             ``max_failures`` was passed; holds the outcomes
        └── JournalError                the journal cannot be opened, read or written
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, cast

if TYPE_CHECKING:
    from runmgr.messages import RetryPromptPart
    from runmgr.records.outcomes import RunOutcome

__all__ = (
    "AgentRunError",
    "ApprovalRequired",
    "BudgetExhausted",
    "CallDeferred",
    "ContentFilterError",
    "FallbackExceptionGroup",
    "IncompleteToolCall",
    "InputError",
    "JournalError",
    "MalformedResponseError",
    "ModelAPIError",
    "ModelConnectionError",
    "ModelHTTPError",
    "ModelRetry",
    "ModelTimeoutError",
    "RunCancelled",
    "RunEnded",
    "RunFailed",
    "RunmgrError",
    "SupervisorClosed",
    "TooManyFailures",
    "ToolInterrupted",
    "ToolRetryError",
    "UnexpectedModelBehavior",
    "UsageLimitExceeded",
    "UserError",
)


class ModelRetry(Exception):
    """Raise in a tool, output function or validator to have the model try again.

    Args:
        message: shown to the model.
    """

    message: str

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(message)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, self.__class__) and other.message == self.message

    def __hash__(self) -> int:
        return hash((self.__class__, self.message))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """In pydantic schemas (``DeferredToolResults`` that come as JSON) it is its message, with a kind."""
        from pydantic_core import core_schema

        fields = {
            "message": core_schema.typed_dict_field(core_schema.str_schema()),
            "kind": core_schema.typed_dict_field(core_schema.literal_schema(["model-retry"])),
        }
        loaded = core_schema.no_info_after_validator_function(
            lambda value: cls(value["message"]), core_schema.typed_dict_schema(fields)
        )
        return core_schema.union_schema(
            [core_schema.is_instance_schema(cls), loaded],
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda value: {"message": value.message, "kind": "model-retry"}
            ),
        )


class CallDeferred(Exception):
    """Raise in a tool when its result will come from outside, after the run has ended.

    Args:
        metadata: kept in ``DeferredToolRequests.metadata`` under the call's id.
    """

    def __init__(self, metadata: dict[str, Any] | None = None) -> None:
        self.metadata = metadata
        super().__init__()


class ApprovalRequired(Exception):
    """Raise in a tool when a person must approve the call first.

    Args:
        metadata: kept in ``DeferredToolRequests.metadata`` under the call's id.
    """

    def __init__(self, metadata: dict[str, Any] | None = None) -> None:
        self.metadata = metadata
        super().__init__()


class ToolRetryError(Exception):
    """A tool call or output failed and the model is to be told: carries the part to tell it with."""

    def __init__(self, tool_retry: RetryPromptPart) -> None:
        self.tool_retry = tool_retry
        content = tool_retry.content
        super().__init__(content if isinstance(content, str) else _described(content, tool_retry.tool_name))


def _described(details: list[Any], tool_name: str | None) -> str:
    """Validation errors as people read them in a traceback."""
    count = f"{len(details)} validation error{'s' if len(details) != 1 else ''}"
    lines = [f"{count} for {tool_name!r}" if tool_name else count]
    for detail in details:
        lines.append(".".join(map(str, detail["loc"])) or "__root__")
        lines.append(f"  {detail['msg']} [type={detail['type']}, input_value={detail['input']!r}]")
    return "\n".join(lines)


class UserError(RuntimeError):
    """The program that uses runmgr made a mistake; the message says which and the way out."""

    message: str

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(message)


class InputError(UserError):
    """An input of a command is wrong: names the source, and the line where there is one.

    Args:
        message: what is wrong.
        source: the file or argument.
        line: 1-based line number.
    """

    def __init__(self, message: str, *, source: str | None = None, line: int | None = None) -> None:
        self.source = source
        self.line = line
        where = "" if source is None else f"{source}: " if line is None else f"{source}:{line}: "
        super().__init__(where + message)


class AgentRunError(RuntimeError):
    """A run failed."""

    message: str

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(message)

    def __str__(self) -> str:
        return self.message


class UsageLimitExceeded(AgentRunError):
    """A run went, or would have gone, over its ``UsageLimits``."""


class BudgetExhausted(UsageLimitExceeded):
    """A request's upper bound no longer fits a hard budget, and no settling request can change that.

    Args:
        message: names the budget, its limit, what is used and what the request needed.
        scope: whose budget: ``'supervisor'``, ``'group NAME'`` or ``'run ID'``.
    """

    def __init__(self, message: str, *, scope: str = "supervisor") -> None:
        self.scope = scope
        super().__init__(message)


class ToolInterrupted(AgentRunError):
    """A tool that is declared ``idempotent=False`` was running when the run's process ended, and nobody is there to say what came
    of it.
    """


class UnexpectedModelBehavior(AgentRunError):
    """The model answered something that the run cannot use.

    Args:
        message: what was wrong.
        body: the answer, or a part of it; JSON is indented when printed.
    """

    body: str | None

    def __init__(self, message: str, body: str | None = None) -> None:
        self.body = None
        if body is not None:
            try:
                self.body = json.dumps(json.loads(body), indent=2)
            except ValueError:
                self.body = body
        super().__init__(message)

    def __str__(self) -> str:
        return f"{self.message}, body:\n{self.body}" if self.body else self.message


class ContentFilterError(UnexpectedModelBehavior):
    """The provider's content filter stopped the response and left it empty."""


class IncompleteToolCall(UnexpectedModelBehavior):
    """The token limit cut the response inside a tool call's arguments."""


class ModelAPIError(AgentRunError):
    """The provider failed.

    Args:
        model_name: the model that was asked.
        message: what happened.
    """

    model_name: str
    _passing: ClassVar[bool] = False
    _unsent: bool = False
    """Nothing of the request left: there was no connection."""

    def __init__(self, model_name: str, message: str) -> None:
        self.model_name = model_name
        super().__init__(message)

    @property
    def retriable(self) -> bool:
        """Whether sending the same request again may help."""
        return self._passing


class ModelHTTPError(ModelAPIError):
    """The provider answered with an error status.

    Args:
        status_code: the HTTP status.
        model_name: the model that was asked.
        body: the decoded body, or its text.
        headers: the response's headers with lower-case names (``retry-after``, rate-limit headers).
    """

    status_code: int
    body: object | None
    headers: Mapping[str, str]

    def __init__(
        self,
        status_code: int,
        model_name: str,
        body: object | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status_code = status_code
        self.body = body
        self.headers = headers or {}
        super().__init__(model_name, f"status_code: {status_code}, model_name: {model_name}, body: {body}")

    @property
    def request_id(self) -> str | None:
        """The provider's id of the request, where it sent one: in a header, or in the body."""
        for name in _REQUEST_IDS:
            if found := self.headers.get(name):
                return found
        found = (
            cast("dict[str, object]", self.body).get("request_id") if isinstance(self.body, dict) else None
        )
        return found if isinstance(found, str) else None

    @property
    def provider_message(self) -> str | None:
        """What the provider says is wrong, in its own words; None where the body has no message."""
        for name in ("message", "detail"):
            if isinstance(message := self._error.get(name), str):
                return message
        return self.body if isinstance(self.body, str) and self.body else None

    @property
    def provider_code(self) -> str | None:
        """The provider's name for what is wrong: its error's ``code``, else ``status`` or ``type``, whichever is a word."""
        for name in ("code", "status", "type"):
            value = self._error.get(name)
            if isinstance(value, str) and value:
                return value
        return None

    @property
    def retriable(self) -> bool:
        """Whether sending the same request again may help: 408, 409, 429 and 5xx may, unless a 429 says that the account's money or
        access is at its end. A provider that says so itself (``x-should-retry``, as OpenAI and Anthropic do) is believed.
        """
        told = self.headers.get("x-should-retry")
        if told in {"true", "false"}:
            return told == "true"
        if self.status_code == 429:
            return not any(self._error.get(name) in _SPENT for name in ("code", "type"))
        return self.status_code in _PASSING or self.status_code >= 500

    @property
    def _error(self) -> dict[str, object]:
        if not isinstance(self.body, dict):
            return {}
        outer = cast("dict[str, object]", self.body)
        inner = outer.get("error", outer)
        return cast("dict[str, object]", inner) if isinstance(inner, dict) else {"message": inner}


_REQUEST_IDS = ("x-request-id", "request-id", "apim-request-id", "cf-ray")
_PASSING = frozenset({408, 409})
# 429 with one of these is about money or access, which waiting does not mend.
_SPENT = ("insufficient_quota", "billing_not_active", "billing_hard_limit_reached")


class ModelConnectionError(ModelAPIError):
    """No connection, or one that broke before the answer was whole."""

    _passing = True


class ModelTimeoutError(ModelAPIError):
    """The provider was slower than the timeout that applied."""

    _passing = True


class MalformedResponseError(ModelAPIError):
    """The body was cut short, was not JSON, or lacked what every answer has."""

    _passing = True


class FallbackExceptionGroup(ExceptionGroup[Any]):
    """Every model of a ``FallbackModel`` failed; holds each one's exception."""


class RunmgrError(Exception):
    """Base of what only runmgr raises."""


class RunFailed(RunmgrError):
    """A run ended in failure.

    Args:
        outcome: how it ended; ``outcome.error`` holds type and message.
    """

    def __init__(self, outcome: RunOutcome) -> None:
        self.outcome = outcome
        error = outcome.error
        super().__init__(
            f"run {outcome.run_id} failed" + (f": {error.type}: {error.message}" if error else "")
        )


class RunCancelled(RunmgrError):
    """A run was cancelled.

    Args:
        outcome: how it ended; ``outcome.error`` holds the reason.
    """

    def __init__(self, outcome: RunOutcome) -> None:
        self.outcome = outcome
        error = outcome.error
        super().__init__(f"run {outcome.run_id} was cancelled" + (f": {error.message}" if error else ""))


class RunEnded(RunmgrError):
    """A command was sent to a run that had already ended."""


class SupervisorClosed(RunmgrError):
    """The supervisor no longer admits runs."""


class TooManyFailures(RunmgrError):
    """More runs failed than ``max_failures`` allows.

    Args:
        message: names the limit and the count.
        outcomes: the failed runs' outcomes, as many as were kept.
    """

    def __init__(self, message: str, outcomes: tuple[RunOutcome, ...] = ()) -> None:
        self.outcomes = outcomes
        super().__init__(message)


class JournalError(RunmgrError):
    """The journal cannot be opened, read or written: names the file and the way out."""
