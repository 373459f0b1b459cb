"""Smaller providers and gateways that speak OpenAI's chat completions. Each is a name, a URL and the variables that its key is in."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import ClassVar

from runmgr.profiles import ModelProfile
from runmgr.profiles.families import compatible_profile
from runmgr.profiles.openai import OpenAIModelProfile
from runmgr.providers.compatible import CompatibleProvider

__all__ = (
    "AlibabaProvider",
    "GitHubProvider",
    "GrokProvider",
    "HerokuProvider",
    "LiteLLMProvider",
    "NebiusProvider",
    "OVHcloudProvider",
    "SambaNovaProvider",
    "VercelProvider",
    "XaiProvider",
)


class XaiProvider(CompatibleProvider):
    """xAI (https://docs.x.ai/docs/api-reference). Arguments as of ``CompatibleProvider``; ``XAI_API_KEY`` holds the key."""

    provider: ClassVar[str] = "xai"
    title: ClassVar[str] = "xAI"
    url: ClassVar[str | None] = "https://api.x.ai/v1"
    key_variables: ClassVar[tuple[str, ...]] = ("XAI_API_KEY",)
    switches: ClassVar[OpenAIModelProfile] = OpenAIModelProfile(
        supports_json_object_output=True,
        supports_json_schema_output=True,
        openai_chat_thinking_field="reasoning_content",
    )

    def model_profile(self, model_name: str) -> ModelProfile | None:
        """Models that think refuse penalties and stop sequences (https://docs.x.ai/docs/guides/reasoning)."""
        profile = compatible_profile(model_name, self.switches)
        if not _THINKS.match(model_name):
            return profile
        return replace(
            profile,
            openai_unsupported_model_settings=("presence_penalty", "frequency_penalty", "stop_sequences"),
        )


_THINKS = re.compile(r"(?!.*non-reasoning)grok-(?:3-mini|[4-9]|code|build|latest)")


class GrokProvider(XaiProvider):
    """xAI under the name that Pydantic AI first gave it; ``GROK_API_KEY`` holds the key."""

    provider: ClassVar[str] = "grok"
    key_variables: ClassVar[tuple[str, ...]] = ("GROK_API_KEY",)


class GitHubProvider(CompatibleProvider):
    """GitHub Models (https://docs.github.com/en/github-models); ``GITHUB_API_KEY`` holds a token with ``models:read``."""

    provider: ClassVar[str] = "github"
    title: ClassVar[str] = "GitHub Models"
    url: ClassVar[str | None] = "https://models.github.ai/inference"
    key_variables: ClassVar[tuple[str, ...]] = ("GITHUB_API_KEY",)


class VercelProvider(CompatibleProvider):
    """Vercel's AI Gateway (https://vercel.com/docs/ai-gateway); ``VERCEL_AI_GATEWAY_API_KEY`` or ``VERCEL_OIDC_TOKEN`` holds the key."""

    provider: ClassVar[str] = "vercel"
    title: ClassVar[str] = "Vercel AI Gateway"
    url: ClassVar[str | None] = "https://ai-gateway.vercel.sh/v1"
    key_variables: ClassVar[tuple[str, ...]] = ("VERCEL_AI_GATEWAY_API_KEY", "VERCEL_OIDC_TOKEN")


class NebiusProvider(CompatibleProvider):
    """Nebius (https://docs.studio.nebius.com); ``NEBIUS_API_KEY`` holds the key."""

    provider: ClassVar[str] = "nebius"
    title: ClassVar[str] = "Nebius"
    url: ClassVar[str | None] = "https://api.studio.nebius.com/v1"
    key_variables: ClassVar[tuple[str, ...]] = ("NEBIUS_API_KEY",)


class OVHcloudProvider(CompatibleProvider):
    """OVHcloud (https://help.ovhcloud.com/csm/en-public-cloud-ai-endpoints); ``OVHCLOUD_API_KEY`` holds the key."""

    provider: ClassVar[str] = "ovhcloud"
    title: ClassVar[str] = "OVHcloud"
    url: ClassVar[str | None] = "https://oai.endpoints.kepler.ai.cloud.ovh.net/v1"
    key_variables: ClassVar[tuple[str, ...]] = ("OVHCLOUD_API_KEY",)


class AlibabaProvider(CompatibleProvider):
    """Alibaba's Model Studio (https://www.alibabacloud.com/help/en/model-studio); ``ALIBABA_API_KEY`` or ``DASHSCOPE_API_KEY`` holds
    the key.
    """

    provider: ClassVar[str] = "alibaba"
    title: ClassVar[str] = "Alibaba Model Studio"
    url: ClassVar[str | None] = "https://dashscope-intl.aliyuncs.com/compatible-mode/v1"
    key_variables: ClassVar[tuple[str, ...]] = ("ALIBABA_API_KEY", "DASHSCOPE_API_KEY")
    switches: ClassVar[OpenAIModelProfile] = OpenAIModelProfile(
        openai_chat_thinking_field="reasoning_content"
    )


class SambaNovaProvider(CompatibleProvider):
    """SambaNova (https://docs.sambanova.ai); ``SAMBANOVA_API_KEY`` holds the key, ``SAMBANOVA_BASE_URL`` the URL."""

    provider: ClassVar[str] = "sambanova"
    title: ClassVar[str] = "SambaNova"
    url: ClassVar[str | None] = "https://api.sambanova.ai/v1"
    key_variables: ClassVar[tuple[str, ...]] = ("SAMBANOVA_API_KEY",)
    url_variable: ClassVar[str | None] = "SAMBANOVA_BASE_URL"


class HerokuProvider(CompatibleProvider):
    """Heroku (https://devcenter.heroku.com/articles/heroku-inference); ``HEROKU_INFERENCE_KEY`` holds the key,
    ``HEROKU_INFERENCE_URL`` the URL.
    """

    provider: ClassVar[str] = "heroku"
    title: ClassVar[str] = "Heroku"
    url: ClassVar[str | None] = "https://us.inference.heroku.com/v1"
    key_variables: ClassVar[tuple[str, ...]] = ("HEROKU_INFERENCE_KEY",)
    url_variable: ClassVar[str | None] = "HEROKU_INFERENCE_URL"


class LiteLLMProvider(CompatibleProvider):
    """A LiteLLM proxy (https://docs.litellm.ai/docs/simple_proxy); ``LITELLM_BASE_URL`` holds the URL, ``LITELLM_API_KEY`` the key."""

    provider: ClassVar[str] = "litellm"
    title: ClassVar[str] = "LiteLLM"
    url: ClassVar[str | None] = "http://localhost:4000/v1"
    key_variables: ClassVar[tuple[str, ...]] = ("LITELLM_API_KEY",)
    url_variable: ClassVar[str | None] = "LITELLM_BASE_URL"
    needs_key: ClassVar[bool] = False
