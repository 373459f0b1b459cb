"""Providers that are compatible with OpenAI: names, URLs, variables and profiles as Pydantic AI 1.46 has them, where it does."""

import importlib

import pytest

from runmgr.exceptions import UserError
from runmgr.messages import ModelRequest, UserPromptPart
from runmgr.models import ModelRequestParameters, infer_model
from runmgr.models.http import Reply
from runmgr.models.openai import OpenAIChatModel, OpenAIResponsesModel
from runmgr.profiles.anthropic import AnthropicJsonSchemaTransformer
from runmgr.profiles.google import GoogleJsonSchemaTransformer
from runmgr.profiles.json_schema import InlineDefsJsonSchemaTransformer
from runmgr.profiles.openai import OpenAIJsonSchemaTransformer
from runmgr.providers import infer_provider, infer_provider_class
from runmgr.providers.azure import AzureProvider
from runmgr.providers.openrouter import OpenRouterProvider

REMOTE = {
    "openrouter": ("OpenRouterProvider", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "deepseek": ("DeepSeekProvider", "https://api.deepseek.com", "DEEPSEEK_API_KEY"),
    "groq": ("GroqProvider", "https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "together": ("TogetherProvider", "https://api.together.xyz/v1", "TOGETHER_API_KEY"),
    "mistral": ("MistralProvider", "https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    "fireworks": ("FireworksProvider", "https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"),
    "cerebras": ("CerebrasProvider", "https://api.cerebras.ai/v1", "CEREBRAS_API_KEY"),
    "moonshotai": ("MoonshotAIProvider", "https://api.moonshot.ai/v1", "MOONSHOTAI_API_KEY"),
}
LOCAL = {
    "ollama": ("OllamaProvider", None, "OLLAMA_BASE_URL"),
    "vllm": ("VLLMProvider", "http://localhost:8000/v1", "VLLM_BASE_URL"),
    "sglang": ("SGLangProvider", "http://localhost:30000/v1", "SGLANG_BASE_URL"),
    "llamacpp": ("LlamaCppProvider", "http://localhost:8080/v1", "LLAMACPP_BASE_URL"),
}
VARIABLES = [row[2] for row in (*REMOTE.values(), *LOCAL.values())]


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in (
        *VARIABLES,
        "AZURE_OPENAI_API_KEY",
        "AZURE_OPENAI_ENDPOINT",
        "OPENAI_API_VERSION",
        "GROQ_BASE_URL",
    ):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("name", REMOTE)
def test_those_with_a_key(monkeypatch, name):
    class_name, url, variable = REMOTE[name]
    cls = getattr(importlib.import_module(f"runmgr.providers.{name}"), class_name)
    with pytest.raises(UserError, match=variable):
        infer_model(f"{name}:some-model")
    monkeypatch.setenv(variable, "hunter2")
    model = infer_model(f"{name}:some-model")
    assert isinstance(model, OpenAIChatModel)
    assert (model.system, model.base_url) == (name, url)
    assert type(model.provider) is cls is infer_provider_class(name)
    assert model.client._headers["authorization"] == "Bearer hunter2"
    assert "hunter2" not in repr(model) + repr(model.client)
    assert cls(api_key="k", base_url="http://h/v1").base_url == "http://h/v1"
    assert cls(base_url="http://h/v1").client._headers["authorization"] == "Bearer hunter2"


@pytest.mark.parametrize("name", LOCAL)
def test_those_of_ones_own(monkeypatch, name):
    _, url, variable = LOCAL[name]
    if url is None:
        with pytest.raises(UserError, match=variable):
            infer_provider(name)
    else:
        assert infer_provider(name).base_url == url
    monkeypatch.setenv(variable, "http://h:1/v1")
    assert infer_model(f"{name}:m").base_url == "http://h:1/v1"
    assert infer_provider(name).client._headers["authorization"] == "Bearer api-key-not-set"


@pytest.mark.parametrize(
    ("model", "transformer", "whitespace"),
    [
        ("meta-llama/Llama-3", InlineDefsJsonSchemaTransformer, False),
        ("Qwen/Qwen2", InlineDefsJsonSchemaTransformer, True),
        ("qwq-32b", InlineDefsJsonSchemaTransformer, True),
        ("deepseek-ai/DeepSeek-R1", OpenAIJsonSchemaTransformer, True),
        ("deepseek-ai/DeepSeek-V3", OpenAIJsonSchemaTransformer, False),
        ("google/gemma-2", GoogleJsonSchemaTransformer, False),
        ("moonshotai/kimi-k2", OpenAIJsonSchemaTransformer, True),
        ("anthropic/claude-sonnet-4-5", AnthropicJsonSchemaTransformer, False),
        ("openai/gpt-oss-20b", OpenAIJsonSchemaTransformer, True),
        ("mistralai/x", OpenAIJsonSchemaTransformer, False),
    ],
)
def test_families(model, transformer, whitespace):
    profile = OpenRouterProvider(api_key="k").model_profile(model)
    assert profile.json_schema_transformer is transformer
    assert profile.ignore_streamed_leading_whitespace is whitespace
    assert profile.openai_chat_thinking_field == "reasoning"
    assert profile.openai_chat_send_back_thinking_parts == "field"
    assert profile.openai_supports_tool_choice_required is ("gpt-oss" not in model)


def test_what_differs(monkeypatch):
    for _, _, variable in REMOTE.values():
        monkeypatch.setenv(variable, "k")
    reasoner = infer_provider("deepseek").model_profile("deepseek-reasoner")
    assert not reasoner.openai_supports_tool_choice_required
    assert reasoner.openai_chat_thinking_field == "reasoning_content"
    assert infer_provider("deepseek").model_profile("deepseek-chat").openai_supports_tool_choice_required
    assert not infer_provider("mistral").model_profile("m").openai_chat_supports_max_completion_tokens
    assert (
        "parallel_tool_calls"
        in infer_provider("cerebras").model_profile("m").openai_unsupported_model_settings
    )


def test_openrouter_is_told_who_asks(monkeypatch):
    monkeypatch.setenv("OPENROUTER_APP_TITLE", "t")
    headers = OpenRouterProvider(api_key="k", app_url="https://me").client._headers
    assert (headers["http-referer"], headers["x-title"]) == ("https://me", "t")


# ---------------------------------------------------------------- Azure


def test_azure_lacks_something(monkeypatch):
    with pytest.raises(UserError, match="AZURE_OPENAI_ENDPOINT"):
        AzureProvider()
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://x.openai.azure.com")
    with pytest.raises(UserError, match="AZURE_OPENAI_API_KEY"):
        AzureProvider()
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "hunter2")
    with pytest.raises(UserError, match="OPENAI_API_VERSION"):
        AzureProvider()
    monkeypatch.setenv("OPENAI_API_VERSION", "2024-06-01")
    provider = AzureProvider()
    assert (provider.name, provider.base_url) == ("azure", "https://x.openai.azure.com/openai/")
    assert "hunter2" not in repr(provider)
    assert AzureProvider(azure_endpoint="https://x/openai/v1/").base_url == "https://x/openai/v1/"


class Client:
    base_url = "u"
    timeouts = None

    def __init__(self):
        self.paths = []

    async def post(self, path, body, headers=None, timeouts=None):
        self.paths.append(path)
        return Reply(500, [], b"{}")


@pytest.mark.parametrize(
    ("cls", "endpoint", "path"),
    [
        (OpenAIChatModel, "https://x", "/deployments/my%20gpt/chat/completions?api-version=v"),
        (OpenAIResponsesModel, "https://x", "/responses?api-version=v"),
        (OpenAIChatModel, "https://x/openai/v1", "/chat/completions"),
    ],
)
async def test_azure_has_its_own_paths(cls, endpoint, path):
    provider = AzureProvider(azure_endpoint=endpoint, api_version="v", api_key="k")
    assert provider.client._headers["api-key"] == "k"
    assert "authorization" not in provider.client._headers
    provider._client = client = Client()
    model = cls("my gpt", provider=provider)
    with pytest.raises(Exception, match="status_code: 500"):
        await model.request_once([ModelRequest([UserPromptPart("q")])], None, ModelRequestParameters())
    assert client.paths == [path]
