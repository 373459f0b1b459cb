"""Settings of OpenAI's models, of both of its APIs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from runmgr.settings import ModelSettings

__all__ = ("OpenAIChatModelSettings", "OpenAIModelSettings", "OpenAIResponsesModelSettings")


class OpenAIChatModelSettings(ModelSettings, total=False):
    """Settings of chat completions beyond those that every model knows."""

    openai_reasoning_effort: str
    """How much a reasoning model thinks before it answers: ``none``, ``minimal``, ``low``, ``medium``, ``high``, ``xhigh``,
    as the model has them."""

    openai_logprobs: bool
    """Log probabilities of the answer's tokens, in ``provider_details['logprobs']``."""

    openai_top_logprobs: int
    """How many of the likeliest tokens at each place to tell."""

    openai_user: str
    """The end user, for OpenAI's abuse detection."""

    openai_service_tier: Literal["auto", "default", "flex", "priority"]
    """How fast, and at what price, the request is served."""

    openai_prediction: dict[str, Any]
    """What the answer will mostly be: ``{"type": "content", "content": ...}``."""

    openai_prompt_cache_key: str
    """Requests with the same key are cached together."""

    openai_prompt_cache_retention: Literal["in-memory", "24h"]
    """How long the prompt is cached."""


class OpenAIModelSettings(OpenAIChatModelSettings, total=False):
    """Old name of ``OpenAIChatModelSettings``."""


class OpenAIResponsesModelSettings(OpenAIChatModelSettings, total=False):
    """Settings of the Responses API beyond those of chat completions; ``openai_prediction`` has no use there."""

    openai_builtin_tools: Sequence[dict[str, Any]]
    """OpenAI's own tools as the API takes them."""

    openai_reasoning_generate_summary: Literal["detailed", "concise"]
    """Old name of ``openai_reasoning_summary``."""

    openai_reasoning_summary: Literal["detailed", "concise", "auto"]
    """How much of its thoughts the model tells."""

    openai_send_reasoning_ids: bool
    """Send thoughts, texts and calls of earlier turns back under their ids, with what they were encrypted to; as the profile says
    where not given."""

    openai_truncation: Literal["disabled", "auto"]
    """Whether a conversation that is too long is cut, or an error."""

    openai_text_verbosity: Literal["low", "medium", "high"]
    """How long answers are."""

    openai_previous_response_id: str
    """Continue from a response that OpenAI stored; ``auto`` is the latest of the conversation, and sends only what came after it."""

    openai_include_code_execution_outputs: bool
    """Tell what code printed."""

    openai_include_web_search_sources: bool
    """Tell which pages a search found."""

    openai_include_file_search_results: bool
    """Tell what a search of files found."""
