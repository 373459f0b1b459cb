"""What model requests cost in tokens, and the limits a run puts on it.

Names and meaning are those of Pydantic AI 1.46, with two mistakes not repeated: adding usages never changes an
operand, and every token count is added, output audio included.
"""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import msgspec
from typing_extensions import deprecated

from runmgr.exceptions import UsageLimitExceeded
from runmgr.structs import Value, replace

__all__ = ("RequestUsage", "RunUsage", "Usage", "UsageBase", "UsageLimits", "add_tokens")


class UsageBase(Value, kw_only=True, gc=False):
    """Token counts that a request and a run have in common.

    ``input_tokens`` includes those read from or written to a cache; the audio counts are included in input and output.
    ``details`` holds what a provider counts beyond that, by its own names.
    """

    input_tokens: int = 0
    cache_write_tokens: int = 0
    cache_read_tokens: int = 0
    output_tokens: int = 0
    input_audio_tokens: int = 0
    cache_audio_read_tokens: int = 0
    output_audio_tokens: int = 0
    details: dict[str, int] = {}  # noqa: RUF012 (msgspec makes a new one for each instance)

    _repr_skips_empty: ClassVar[frozenset[str]] = frozenset({"details"})

    @property
    def total_tokens(self) -> int:
        """Input and output tokens together."""
        return self.input_tokens + self.output_tokens

    @property
    @deprecated("`request_tokens` is deprecated, use `input_tokens` instead")
    def request_tokens(self) -> int:
        """Old name of ``input_tokens``."""
        return self.input_tokens

    @property
    @deprecated("`response_tokens` is deprecated, use `output_tokens` instead")
    def response_tokens(self) -> int:
        """Old name of ``output_tokens``."""
        return self.output_tokens

    def has_values(self) -> bool:
        """Whether anything was counted."""
        return any(getattr(self, name) for name in self.__struct_fields__)

    def opentelemetry_attributes(self) -> dict[str, int]:
        """Span attributes under the GenAI semantic conventions; zero counts are left out."""
        result: dict[str, int] = {}
        if self.input_tokens:
            result["gen_ai.usage.input_tokens"] = self.input_tokens
        if self.output_tokens:
            result["gen_ai.usage.output_tokens"] = self.output_tokens
        details = {name: getattr(self, name) for name in _DETAIL_FIELDS}
        for name, value in (self.details | details).items():
            if value:
                result[f"gen_ai.usage.details.{name}"] = value
        return result

    @classmethod
    def _from_plain(cls, value: Any) -> Any:
        if isinstance(value, dict):
            value = rename_old_keys(value)  # pyright: ignore[reportUnknownArgumentType]
            value = {key: item for key, item in value.items() if key in cls.__struct_fields__}
        return msgspec.convert(value, cls, strict=False)


_DETAIL_FIELDS = (
    "cache_write_tokens",
    "cache_read_tokens",
    "input_audio_tokens",
    "cache_audio_read_tokens",
    "output_audio_tokens",
)


def rename_old_keys(value: dict[str, Any]) -> dict[str, Any]:
    """``value`` with the keys that usages were once written with turned into today's (``request_tokens``...)."""
    if value.get("details", value) is None:
        value = {key: item for key, item in value.items() if key != "details"}
    for old, new in (("request_tokens", "input_tokens"), ("response_tokens", "output_tokens")):
        if old in value:
            value = {key: item for key, item in value.items() if key != old} | {
                new: value.get(new, value[old])
            }
    return value


class RequestUsage(UsageBase, kw_only=True, gc=False, forbid_unknown_fields=True):
    """What one model request used."""

    @property
    def requests(self) -> int:
        """Always 1: a request counts as one."""
        return 1

    def incr(self, incr_usage: RequestUsage) -> None:
        """Adds ``incr_usage`` to this one in place; ``incr_usage`` stays as it is."""
        add_tokens(self, incr_usage)

    def __add__(self, other: RequestUsage) -> RequestUsage:
        """The sum, as a new usage; for the chunks of one streamed response."""
        total = replace(self, details=self.details.copy())
        add_tokens(total, other)
        return total

    @classmethod
    def extract(
        cls,
        data: Any,
        *,
        provider: str,
        provider_url: str,
        provider_fallback: str,
        api_flavor: str = "default",
        details: dict[str, Any] | None = None,
    ) -> RequestUsage:
        """Usage from a provider's answer, by the extractors of genai-prices.

        Args:
            data: the decoded body, or an object like it.
            provider: id of the provider, for finding the extractor.
            provider_url: its base URL, tried where the id is unknown.
            provider_fallback: the provider whose extractor is used when neither is known.
            api_flavor: which of the provider's APIs answered.
            details: becomes ``details``.

        Returns:
            The usage; without token counts where no extractor fits.
        """
        from genai_prices.data_snapshot import get_snapshot

        kept = {key: value for key, value in (details or {}).items() if value is not None}
        snapshot = get_snapshot()
        for provider_id, url in ((provider, None), (None, provider_url), (provider_fallback, None)):
            try:
                found = snapshot.find_provider(None, provider_id, url)
                _model, usage = found.extract_usage(data, api_flavor=api_flavor)
            except (LookupError, ValueError):
                continue
            counts = {
                name: count
                for name in UsageBase.__struct_fields__
                if name != "details" and (count := getattr(usage, name, None))
            }
            return cls(**counts, details=kept)
        return cls(details=kept)


class RunUsage(UsageBase, kw_only=True, gc=False):
    """What a run used: the sum over its requests, with how many there were and how many tool calls succeeded."""

    requests: int = 0
    tool_calls: int = 0

    def incr(self, incr_usage: RunUsage | RequestUsage) -> None:
        """Adds ``incr_usage`` to this one in place; ``incr_usage`` stays as it is.

        A ``RequestUsage`` adds no request: whoever sends requests counts them (in ``requests``) when they are sent.
        """
        if isinstance(incr_usage, RunUsage):
            self.requests += incr_usage.requests
            self.tool_calls += incr_usage.tool_calls
        add_tokens(self, incr_usage)

    def __add__(self, other: RunUsage | RequestUsage) -> RunUsage:
        """The sum, as a new usage."""
        total = replace(self, details=self.details.copy())
        total.incr(other)
        return total


class Usage(RunUsage, kw_only=True, gc=False):
    """Old name of :class:`RunUsage`."""

    def __post_init__(self) -> None:
        warnings.warn("`Usage` is deprecated, use `RunUsage` instead", DeprecationWarning, stacklevel=2)


def add_tokens(total: UsageBase, more: UsageBase) -> None:
    """Add the tokens of one usage to another, in place."""
    # Most counts are zero most of the time: a test is cheaper than an addition and a store.
    if n := more.input_tokens:
        total.input_tokens += n
    if n := more.output_tokens:
        total.output_tokens += n
    if n := more.cache_read_tokens:
        total.cache_read_tokens += n
    if n := more.cache_write_tokens:
        total.cache_write_tokens += n
    if n := more.input_audio_tokens:
        total.input_audio_tokens += n
    if n := more.cache_audio_read_tokens:
        total.cache_audio_read_tokens += n
    if n := more.output_audio_tokens:
        total.output_audio_tokens += n
    if more.details:
        details = total.details
        for key, value in more.details.items():
            if value is not None:  # pyright: ignore[reportUnnecessaryComparison] (providers send nulls)
                details[key] = details.get(key, 0) + value


class UsageLimits(Value, kw_only=True, gc=False):
    """Limits of one run; ``None`` is no limit.

    The request limit is checked before each model request, the token limits after each response (and before the
    request too, with ``count_tokens_before_request``, where the model can count), the limit of tool calls before
    tools are called.
    """

    request_limit: int | None = 50
    """How many model requests."""
    tool_calls_limit: int | None = None
    """How many successful tool calls."""
    input_tokens_limit: int | None = None
    """How many input tokens over all requests."""
    output_tokens_limit: int | None = None
    """How many output tokens over all requests."""
    total_tokens_limit: int | None = None
    """How many tokens over all requests."""
    count_tokens_before_request: bool = False
    """Ask the model to count the tokens of each request before sending it, and stop there if they are too many."""
    request_tokens_limit: int | None = None
    """Old name of ``input_tokens_limit``."""
    response_tokens_limit: int | None = None
    """Old name of ``output_tokens_limit``."""

    def __post_init__(self) -> None:
        # The old names are arguments only: the value is kept in one place, under the new name.
        if (old := self.request_tokens_limit) is not None:
            self.request_tokens_limit = None
            if self.input_tokens_limit is None:
                self.input_tokens_limit = old
        if (old := self.response_tokens_limit) is not None:
            self.response_tokens_limit = None
            if self.output_tokens_limit is None:
                self.output_tokens_limit = old

    def has_token_limits(self) -> bool:
        """Whether any limit counts tokens: if none does, nobody needs to count."""
        return (
            self.input_tokens_limit is not None
            or self.output_tokens_limit is not None
            or self.total_tokens_limit is not None
        )

    def check_before_request(self, usage: RunUsage) -> None:
        """Raises ``UsageLimitExceeded`` where one more request, or the tokens counted so far, are too many."""
        limit = self.request_limit
        if limit is not None and usage.requests >= limit:
            raise UsageLimitExceeded(f"The next request would exceed the request_limit of {limit}")
        if (limit := self.input_tokens_limit) is not None and usage.input_tokens > limit:
            raise UsageLimitExceeded(
                f"The next request would exceed the input_tokens_limit of {limit} (input_tokens={usage.input_tokens})"
            )
        if (limit := self.total_tokens_limit) is not None and usage.total_tokens > limit:
            raise UsageLimitExceeded(
                f"The next request would exceed the total_tokens_limit of {limit} (total_tokens={usage.total_tokens})"
            )

    def check_tokens(self, usage: RunUsage) -> None:
        """Raises ``UsageLimitExceeded`` where the tokens used are more than a limit."""
        if (limit := self.input_tokens_limit) is not None and usage.input_tokens > limit:
            raise UsageLimitExceeded(
                f"Exceeded the input_tokens_limit of {limit} (input_tokens={usage.input_tokens})"
            )
        if (limit := self.output_tokens_limit) is not None and usage.output_tokens > limit:
            raise UsageLimitExceeded(
                f"Exceeded the output_tokens_limit of {limit} (output_tokens={usage.output_tokens})"
            )
        if (limit := self.total_tokens_limit) is not None and usage.total_tokens > limit:
            raise UsageLimitExceeded(
                f"Exceeded the total_tokens_limit of {limit} (total_tokens={usage.total_tokens})"
            )

    def check_before_tool_call(self, projected_usage: RunUsage) -> None:
        """Raises ``UsageLimitExceeded`` where the calls about to be made are too many.

        Args:
            projected_usage: the run's usage as it will be when they have succeeded.
        """
        limit = self.tool_calls_limit
        if limit is not None and projected_usage.tool_calls > limit:
            raise UsageLimitExceeded(
                f"The next tool call(s) would exceed the tool_calls_limit of {limit} "
                f"(tool_calls={projected_usage.tool_calls})."
            )
