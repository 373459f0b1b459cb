"""The smaller providers: URLs and variables as their pages tell them, and as Pydantic AI 1.46 has those that it knows."""

import pytest

from runmgr.exceptions import UserError
from runmgr.models import infer_model
from runmgr.providers import infer_provider, infer_provider_class

KNOWN = {
    "xai": ("https://api.x.ai/v1", "XAI_API_KEY"),
    "grok": ("https://api.x.ai/v1", "GROK_API_KEY"),
    "github": ("https://models.github.ai/inference", "GITHUB_API_KEY"),
    "vercel": ("https://ai-gateway.vercel.sh/v1", "VERCEL_AI_GATEWAY_API_KEY"),
    "nebius": ("https://api.studio.nebius.com/v1", "NEBIUS_API_KEY"),
    "ovhcloud": ("https://oai.endpoints.kepler.ai.cloud.ovh.net/v1", "OVHCLOUD_API_KEY"),
    "alibaba": ("https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "ALIBABA_API_KEY"),
    "sambanova": ("https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY"),
    "heroku": ("https://us.inference.heroku.com/v1", "HEROKU_INFERENCE_KEY"),
}


@pytest.mark.parametrize("name", KNOWN)
def test_url_and_key(monkeypatch, name):
    url, variable = KNOWN[name]
    cls = infer_provider_class(name)
    for known in (*cls.key_variables, cls.url_variable):
        if known:
            monkeypatch.delenv(known, raising=False)
    with pytest.raises(UserError, match=variable):
        infer_model(f"{name}:x")
    monkeypatch.setenv(variable, "hunter2-hunter2")
    provider = infer_provider(name)
    assert (provider.name, provider.base_url) == (name, url)
    assert "hunter2" not in repr(infer_model(f"{name}:x"))


def test_a_litellm_proxy_needs_no_key(monkeypatch):
    monkeypatch.delenv("LITELLM_API_KEY", raising=False)
    monkeypatch.setenv("LITELLM_BASE_URL", "http://127.0.0.1:4000")
    assert infer_provider("litellm").base_url == "http://127.0.0.1:4000"


@pytest.mark.parametrize(
    ("model", "thinks"),
    [
        ("grok-4", True),
        ("grok-4-fast-reasoning", True),
        ("grok-4-fast-non-reasoning", False),
        ("grok-3-mini", True),
        ("grok-3", False),
        ("grok-code-fast-1", True),
    ],
)
def test_grok_models_that_think_take_no_penalties(model, thinks):
    cls = infer_provider_class("xai")
    profile = cls(api_key="k").model_profile(model)
    assert ("stop_sequences" in profile.openai_unsupported_model_settings) is thinks
    assert profile.openai_chat_thinking_field == "reasoning_content"
