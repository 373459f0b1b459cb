"""From a model string to a model.

A string is ``PREFIX:NAME``: the prefix says which class serves it and how it finds its provider, the name is the
provider's. Each prefix is one row of a table; what serves it is imported only when it is asked for.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from runmgr.exceptions import UserError
from runmgr.models.base import Model

__all__ = ("KnownModelName", "infer_model", "known_prefixes", "provider_prefixes")

KnownModelName: TypeAlias = Literal[
    "anthropic:claude-haiku-4-5",
    "anthropic:claude-opus-4-5",
    "anthropic:claude-sonnet-4-5",
    "google:gemini-2.5-flash",
    "google:gemini-2.5-flash-lite",
    "google:gemini-2.5-pro",
    "openai:gpt-4.1",
    "openai:gpt-4.1-mini",
    "openai:gpt-4o",
    "openai:gpt-4o-mini",
    "openai:gpt-5",
    "openai:gpt-5-mini",
    "openai:gpt-5-nano",
    "openai:o3",
    "openai:o4-mini",
    "openai-chat:gpt-4o",
    "openai-chat:gpt-5",
    "openai-responses:gpt-4o",
    "openai-responses:gpt-5",
    "sim:",
    "test",
]
"""Some model strings, for editors to offer; any name that a provider knows will do."""

# Prefix: module, class, provider's name. The modules are imported when they are asked for, and some of them are not
# part of every version.
_SERVED: dict[str, tuple[str, str, str]] = {
    "openai": ("runmgr.models.openai", "OpenAIChatModel", "openai"),
    "openai-chat": ("runmgr.models.openai", "OpenAIChatModel", "openai"),
    "openai-responses": ("runmgr.models.openai", "OpenAIResponsesModel", "openai"),
    "anthropic": ("runmgr.models.anthropic", "AnthropicModel", "anthropic"),
    "google": ("runmgr.models.google", "GoogleModel", "google"),
}
# Those that speak OpenAI's chat completions.
_SERVED.update(
    {
        name: ("runmgr.models.openai", "OpenAIChatModel", name)
        for name in (
            "openrouter",
            "deepseek",
            "groq",
            "together",
            "mistral",
            "ollama",
            "azure",
            "vllm",
            "sglang",
            "llamacpp",
            "fireworks",
            "cerebras",
            "moonshotai",
            "xai",
            "grok",
            "github",
            "vercel",
            "nebius",
            "ovhcloud",
            "alibaba",
            "sambanova",
            "heroku",
            "litellm",
        )
    }
)
# Names by which Pydantic AI knows them too.
_ALIASES = {"google-gla": "google"}


class UnknownProviderError(UserError, ValueError):
    """A prefix that nobody serves; a ``ValueError`` too, which it is in Pydantic AI."""


def known_prefixes() -> tuple[str, ...]:
    """How a model string may start; ``test`` stands alone."""
    return (*_SERVED, "sim", "test")


def provider_prefixes() -> tuple[str, ...]:
    """The prefixes of providers, without those that are the same provider's other APIs."""
    return tuple(prefix for prefix, row in _SERVED.items() if row[2] == prefix)


def infer_model(model: Model | str, provider_factory: Callable[[str], Any] | None = None) -> Model:
    """The model of a string, or the model itself.

    No connection is made, and nothing is asked of the provider.

    Args:
        model: ``openai:NAME`` and ``openai-chat:NAME`` (chat completions), ``openai-responses:NAME``,
            ``anthropic:NAME``, ``google:NAME``, a provider that is compatible with OpenAI (``openrouter:NAME``, ``ollama:NAME``,
            ``vllm:NAME``, ...), ``test``, or ``sim:KEY=VALUE,...`` (the simulated model).
        provider_factory: makes the provider from its name; by default keys and URLs come from the environment.

    Raises:
        UserError: no such prefix, or the provider's key is missing.
    """
    if isinstance(model, Model):
        return model
    if not isinstance(model, str):
        raise UserError(f"A model is a string like 'openai:gpt-5' or a Model, not {model!r}")
    if model == "test":
        from runmgr.models.test import TestModel

        return TestModel()
    prefix, colon, name = model.partition(":")
    if prefix == "sim":
        # `sim` alone is the simulated model as it comes.
        return _load(model, "runmgr.models.sim", "SimModel")(name)
    row = _SERVED.get(_ALIASES.get(prefix, prefix))
    if row is None or not colon or not name:
        kind = UnknownProviderError if colon and prefix not in _SERVED else UserError
        raise kind(_unknown(model, prefix, name))
    module, class_name, provider_name = row
    cls = _load(model, module, class_name)
    return cls(name, provider=provider_name if provider_factory is None else provider_factory(provider_name))


def _load(model: str, module: str, class_name: str) -> Any:
    """A model class, or an error that says that this version does not have it."""
    missing = f"Unknown model: {model}: this version of runmgr has no {class_name} yet"
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise UserError(missing) from None
    found = getattr(loaded, class_name, None)
    if found is None:
        raise UserError(missing)
    return found


def _unknown(model: str, prefix: str, name: str) -> str:
    known = known_prefixes()
    if prefix in _SERVED or prefix in _ALIASES:
        return f"Unknown model: {model}: it lacks the model's name, as in '{prefix}:NAME'"
    listed = ", ".join(f"'{each}:NAME'" if each in _SERVED else f"'{each}'" for each in known)
    hint = f" Unknown provider: {prefix}." if name else ""
    guess = _guess(model, prefix, name)
    if guess is not None:
        hint += f" Did you mean {guess!r}?"
    return (
        f"Unknown model: {model}.{hint} A model string is one of {listed} (with options: 'sim:ttft=0.2,...')."
    )


_FAMILIES = (
    ("gpt", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("o4", "openai"),
    ("chatgpt", "openai"),
    ("claude", "anthropic"),
    ("gemini", "google"),
)


def _guess(model: str, prefix: str, name: str) -> str | None:
    """What a mistyped string probably meant: a prefix a letter off, or a name without its prefix."""
    if not name:
        for start, family in _FAMILIES:
            if model.lower().startswith(start):
                return f"{family}:{model.rstrip(':')}"
    candidates = known_prefixes() if not name else (*_SERVED, "sim")
    close = difflib.get_close_matches(prefix.lower().replace("_", "-"), candidates, n=1, cutoff=0.6)
    if not close:
        return None
    return f"{close[0]}:{name}" if name else close[0] if close[0] in {"sim", "test"} else f"{close[0]}:NAME"
