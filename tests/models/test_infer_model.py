"""Model strings: what they make, and what is said when they make nothing."""

import subprocess
import sys

import pytest

from runmgr import models
from runmgr.exceptions import UserError
from runmgr.models import check_allow_model_requests, infer_model, override_allow_model_requests
from runmgr.models.test import TestModel


def test_models_stay_themselves():
    model = TestModel()
    assert infer_model(model) is model
    assert isinstance(infer_model("test"), TestModel)


@pytest.mark.parametrize("string", ["sim", "sim:", "sim:ttft=0.2"])
def test_the_simulated_model(string):
    assert infer_model(string).system == "sim"


def test_a_bad_option_of_the_simulated_model_is_named():
    with pytest.raises(UserError, match="nonsense"):
        infer_model("sim:nonsense=1")


@pytest.mark.parametrize(
    ("string", "meant"),
    [
        ("opnai:gpt-5", "openai:gpt-5"),
        ("OpenAI:gpt-5", "openai:gpt-5"),
        ("openai_chat:gpt-5", "openai-chat:gpt-5"),
        ("antropic:claude-x", "anthropic:claude-x"),
        ("gpt-5", "openai:gpt-5"),
        ("claude-sonnet-4-5", "anthropic:claude-sonnet-4-5"),
        ("gemini-2.5-pro", "google:gemini-2.5-pro"),
        ("tst", "test"),
        ("Test", "test"),
    ],
)
def test_a_typical_mistake_gets_a_suggestion(string, meant):
    with pytest.raises(UserError) as caught:
        infer_model(string)
    assert str(caught.value).startswith(f"Unknown model: {string}.")
    assert f"Did you mean {meant!r}?" in str(caught.value)


@pytest.mark.parametrize("string", ["", ":", "zzz", "zzz:qqq", "test:x"])
def test_anything_else_gets_the_list(string):
    with pytest.raises(UserError) as caught:
        infer_model(string)
    for prefix in ("openai", "openai-chat", "openai-responses", "anthropic", "google", "sim", "test"):
        assert f"'{prefix}" in str(caught.value)


@pytest.mark.parametrize("string", ["openai", "openai:", "anthropic:"])
def test_a_prefix_alone_lacks_the_name(string):
    with pytest.raises(UserError, match="it lacks the model's name"):
        infer_model(string)


@pytest.mark.parametrize("thing", [None, 5, b"test"])
def test_what_is_no_string_is_named(thing):
    with pytest.raises(UserError, match="A model is a string"):
        infer_model(thing)


@pytest.mark.parametrize("class_name", ["AnthropicModel", "GoogleModel", "OpenAIResponsesModel"])
def test_what_this_version_does_not_have_is_said(class_name, monkeypatch):
    module = {"AnthropicModel": "anthropic", "GoogleModel": "google"}.get(class_name, "openai-responses")
    real = models.infer.importlib.import_module

    def absent(name):
        if name == f"runmgr.models.{module}":
            raise ModuleNotFoundError(name=name)
        loaded = real(name)
        monkeypatch.delattr(loaded, class_name, raising=False)
        return loaded

    monkeypatch.setattr(models.infer.importlib, "import_module", absent)
    with pytest.raises(UserError, match=f"this version of runmgr has no {class_name} yet"):
        infer_model(f"{module}:name")


def test_openai(monkeypatch):
    pytest.importorskip("runmgr.models.openai")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    for prefix in ("openai", "openai-chat"):
        model = infer_model(f"{prefix}:gpt-x")
        assert type(model).__name__ == "OpenAIChatModel"
        assert model.model_name == "gpt-x"
        assert model.system == "openai"
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(UserError, match="OPENAI_API_KEY"):
        infer_model("openai:gpt-x")


def test_a_provider_of_ones_own(monkeypatch):
    pytest.importorskip("runmgr.models.openai")
    from runmgr.providers.openai import OpenAIProvider

    asked = []

    def factory(name):
        asked.append(name)
        return OpenAIProvider(api_key="mine", base_url="http://localhost:1/v1")

    assert infer_model("openai:gpt-x", factory).base_url.startswith("http://localhost:1/v1")
    assert asked == ["openai"]


def test_requests_may_be_forbidden(monkeypatch):
    check_allow_model_requests()
    with override_allow_model_requests(False):
        with pytest.raises(RuntimeError, match="ALLOW_MODEL_REQUESTS is False"):
            check_allow_model_requests()
        with override_allow_model_requests(True):
            check_allow_model_requests()
    check_allow_model_requests()
    monkeypatch.setattr(models, "ALLOW_MODEL_REQUESTS", False)
    with pytest.raises(RuntimeError, match="ALLOW_MODEL_REQUESTS is False"):
        check_allow_model_requests()


def test_importing_models_imports_nothing_heavy():
    program = (
        "import sys, runmgr.models, runmgr.models.test, runmgr.models.function, runmgr.models.fallback\n"
        "heavy = {'httpx2', 'opentelemetry', 'rich', 'genai_prices', 'jinja2', 'griffe', 'pyarrow', 'asyncio'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
