"""Settings of a model request that most models know; each model's module adds its own to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# pydantic, which users put settings into, insists on this TypedDict before Python 3.12
from typing_extensions import TypedDict

if TYPE_CHECKING:
    from httpx2 import Timeout
else:
    Timeout = Any

__all__ = ("ModelSettings", "merge_model_settings")


class ModelSettings(TypedDict, total=False):
    """Settings that more than one provider knows; a provider ignores or refuses what it does not know."""

    max_tokens: int
    """The most tokens to generate."""

    temperature: float
    """How random the answer is; 0 is as little as possible, which is not none."""

    top_p: float
    """Nucleus sampling: only tokens within this probability mass. Set this or ``temperature``, not both."""

    timeout: float | Timeout
    """Seconds the whole request may take, or an ``httpx2.Timeout`` for its phases."""

    parallel_tool_calls: bool
    """Whether one response may call several tools."""

    seed: int
    """Seed of the sampling, for answers that repeat where the provider can."""

    presence_penalty: float
    """Penalty on tokens that have appeared at all."""

    frequency_penalty: float
    """Penalty on tokens by how often they have appeared."""

    logit_bias: dict[str, int]
    """How much likelier or less likely tokens are, by their id."""

    stop_sequences: list[str]
    """Texts at which generation stops."""

    extra_headers: dict[str, str]
    """Headers to send along."""

    extra_body: object
    """What to add to the request's body."""


def merge_model_settings(base: ModelSettings | None, overrides: ModelSettings | None) -> ModelSettings | None:
    """``base`` with ``overrides`` on top, key by key; either may be missing, neither is changed."""
    if not base:
        return overrides if overrides else base
    if not overrides:
        return base
    return base | overrides
