"""Profiles of open models by their name, whoever serves them."""

from __future__ import annotations

import re
from collections.abc import Callable

from runmgr.profiles.anthropic import anthropic_model_profile
from runmgr.profiles.google import google_model_profile
from runmgr.profiles.json_schema import InlineDefsJsonSchemaTransformer
from runmgr.profiles.openai import OpenAIJsonSchemaTransformer, OpenAIModelProfile, openai_model_profile
from runmgr.profiles.profile import ModelProfile

__all__ = ("compatible_profile", "family_profile")


def _inlined(_name: str) -> ModelProfile | None:
    return ModelProfile(json_schema_transformer=InlineDefsJsonSchemaTransformer)


def _qwen(_name: str) -> ModelProfile | None:
    # It begins its answers with white space after thoughts, before a tool call.
    return ModelProfile(
        json_schema_transformer=InlineDefsJsonSchemaTransformer, ignore_streamed_leading_whitespace=True
    )


def _deepseek(name: str) -> ModelProfile | None:
    return ModelProfile(ignore_streamed_leading_whitespace="r1" in name)


def _spaced(_name: str) -> ModelProfile | None:
    return ModelProfile(ignore_streamed_leading_whitespace=True)


def _harmony(name: str) -> ModelProfile | None:
    # https://github.com/openai/harmony: whoever serves gpt-oss does not enforce `required`.
    return OpenAIModelProfile(
        openai_supports_tool_choice_required=False, ignore_streamed_leading_whitespace=True
    ).update(openai_model_profile(name))


_FAMILIES: tuple[tuple[re.Pattern[str], Callable[[str], ModelProfile | None]], ...] = (
    (re.compile(r"gpt-oss"), _harmony),
    (re.compile(r"(meta-)?llama"), _inlined),
    (re.compile(r"qwen|qwq"), _qwen),
    (re.compile(r"deepseek"), _deepseek),
    (re.compile(r"kimi"), _spaced),
    (re.compile(r"gemma|gemini"), google_model_profile),
    (re.compile(r"claude"), anthropic_model_profile),
    (re.compile(r"gpt-|chatgpt|o\d"), openai_model_profile),
)


def family_profile(model_name: str) -> ModelProfile | None:
    """The profile of a model's family, or None where the name tells none. Who publishes it may stand before a slash."""
    name = model_name.lower().rpartition("/")[2]
    for pattern, profile in _FAMILIES:
        if pattern.match(name):
            return profile(name)
    return None


def compatible_profile(model_name: str, base: OpenAIModelProfile | None = None) -> OpenAIModelProfile:
    """The profile of a model behind a server that is compatible with OpenAI's chat completions: the family's on top of ``base``."""
    start = base or OpenAIModelProfile()
    return OpenAIModelProfile(json_schema_transformer=OpenAIJsonSchemaTransformer).update(
        start.update(family_profile(model_name))
    )
