"""From a provider's name to a provider."""

from __future__ import annotations

import importlib
from typing import Any

from runmgr.exceptions import UserError
from runmgr.providers.base import Provider

__all__ = ("infer_provider", "infer_provider_class")

# Modules are imported when they are asked for, and some of them are not part of every version.
_PROVIDERS: dict[str, tuple[str, str]] = {
    "openai": ("runmgr.providers.openai", "OpenAIProvider"),
    "openai-chat": ("runmgr.providers.openai", "OpenAIProvider"),
    "openai-responses": ("runmgr.providers.openai", "OpenAIProvider"),
    "anthropic": ("runmgr.providers.anthropic", "AnthropicProvider"),
    "google": ("runmgr.providers.google", "GoogleProvider"),
    "google-gla": ("runmgr.providers.google", "GoogleProvider"),
    "openrouter": ("runmgr.providers.openrouter", "OpenRouterProvider"),
    "deepseek": ("runmgr.providers.deepseek", "DeepSeekProvider"),
    "groq": ("runmgr.providers.groq", "GroqProvider"),
    "together": ("runmgr.providers.together", "TogetherProvider"),
    "mistral": ("runmgr.providers.mistral", "MistralProvider"),
    "ollama": ("runmgr.providers.ollama", "OllamaProvider"),
    "azure": ("runmgr.providers.azure", "AzureProvider"),
    "vllm": ("runmgr.providers.vllm", "VLLMProvider"),
    "sglang": ("runmgr.providers.sglang", "SGLangProvider"),
    "llamacpp": ("runmgr.providers.llamacpp", "LlamaCppProvider"),
    "fireworks": ("runmgr.providers.fireworks", "FireworksProvider"),
    "cerebras": ("runmgr.providers.cerebras", "CerebrasProvider"),
    "moonshotai": ("runmgr.providers.moonshotai", "MoonshotAIProvider"),
    "xai": ("runmgr.providers.gateways", "XaiProvider"),
    "grok": ("runmgr.providers.gateways", "GrokProvider"),
    "github": ("runmgr.providers.gateways", "GitHubProvider"),
    "vercel": ("runmgr.providers.gateways", "VercelProvider"),
    "nebius": ("runmgr.providers.gateways", "NebiusProvider"),
    "ovhcloud": ("runmgr.providers.gateways", "OVHcloudProvider"),
    "alibaba": ("runmgr.providers.gateways", "AlibabaProvider"),
    "sambanova": ("runmgr.providers.gateways", "SambaNovaProvider"),
    "heroku": ("runmgr.providers.gateways", "HerokuProvider"),
    "litellm": ("runmgr.providers.gateways", "LiteLLMProvider"),
}


def infer_provider_class(provider: str) -> type[Provider[Any]]:
    """The class of a provider's name.

    Raises:
        UserError: no such provider; names those there are.
    """
    row = _PROVIDERS.get(provider)
    if row is None:
        raise UserError(f"Unknown provider: {provider!r}. Known are {', '.join(sorted(_PROVIDERS))}.")
    module, name = row
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise UserError(f"Unknown provider: {provider!r}: this version of runmgr has no {name} yet") from None


def infer_provider(provider: str) -> Provider[Any]:
    """The provider of a name, with its key and base URL from the environment.

    Raises:
        UserError: no such provider, or its key is missing; names the variable.
    """
    return infer_provider_class(provider)()
