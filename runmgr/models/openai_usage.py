"""OpenAI's token counts as ours."""

from __future__ import annotations

from typing import Any

from runmgr.models.reading import count_of, object_of
from runmgr.usage import RequestUsage

__all__ = ("map_usage",)

_TOTALS = frozenset({"prompt_tokens", "completion_tokens", "total_tokens"})


def map_usage(usage: dict[str, Any] | None) -> RequestUsage:
    """Usage from the ``usage`` object of a chat completion; zeros where there is none.

    ``details`` holds what is counted beyond the totals: further whole numbers of the object itself, and of
    ``completion_tokens_details`` (``reasoning_tokens``, ...).
    """
    if not usage:
        return RequestUsage()
    details: dict[str, int] = {}
    # Providers with more counts than OpenAI put them beside the totals.
    if len(usage) > 3:
        details.update(_whole(usage))
    result = RequestUsage(
        input_tokens=count_of(usage, "prompt_tokens"),
        output_tokens=count_of(usage, "completion_tokens"),
        details=details,
    )
    if (prompt := object_of(usage, "prompt_tokens_details")) is not None:
        result.cache_read_tokens = count_of(prompt, "cached_tokens")
        result.input_audio_tokens = count_of(prompt, "audio_tokens")
    if (completion := object_of(usage, "completion_tokens_details")) is not None:
        details.update(_whole(completion))
        result.output_audio_tokens = count_of(completion, "audio_tokens")
    return result


def _whole(counts: dict[str, Any]) -> dict[str, int]:
    return {name: value for name, value in counts.items() if type(value) is int and name not in _TOTALS}
