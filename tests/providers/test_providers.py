"""Providers: keys and URLs from arguments and the environment."""

import gc

import httpx2
import pytest
import trio

from runmgr.exceptions import UserError
from runmgr.models import infer_model
from runmgr.models.http import PoolClient, Timeouts
from runmgr.models.openai import OpenAIChatModel, OpenAIModel
from runmgr.profiles.openai import OpenAIModelProfile
from runmgr.providers import Provider, infer_provider, infer_provider_class
from runmgr.providers.openai import OpenAIProvider


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def sent(provider):
    return provider.client._headers


def test_arguments():
    provider = OpenAIProvider("http://h/v1", "secret")
    assert provider.name == "openai"
    assert provider.base_url == "http://h/v1/"
    assert repr(provider) == "OpenAIProvider(name=openai, base_url=http://h/v1/)"
    assert "secret" not in repr(provider.client)
    assert sent(provider)["authorization"] == "Bearer secret"


def test_environment(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "from-env")
    assert OpenAIProvider().base_url == "https://api.openai.com/v1/"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://env/v1")
    monkeypatch.setenv("OPENAI_ORG_ID", "org")
    provider = OpenAIProvider(project="p")
    assert provider.base_url == "http://env/v1/"
    assert sent(provider)["authorization"] == "Bearer from-env"
    assert sent(provider)["openai-organization"] == "org"
    assert sent(provider)["openai-project"] == "p"
    assert OpenAIProvider("http://arg", "k").base_url == "http://arg/"


def test_no_key(monkeypatch):
    for _ in range(2):
        with pytest.raises(UserError, match="OPENAI_API_KEY"):
            OpenAIProvider()
        with pytest.raises(UserError, match="OPENAI_API_KEY"):
            OpenAIChatModel("gpt-4o")
        with pytest.raises(UserError, match="OPENAI_API_KEY"):
            infer_model("openai:gpt-4o")
        monkeypatch.setenv("OPENAI_API_KEY", "")  # set, but to nothing
    assert sent(OpenAIProvider("http://localhost:8000/v1"))["authorization"] == "Bearer api-key-not-set"


def test_a_key_that_cannot_be_sent():
    with pytest.raises(UserError) as caught:
        OpenAIProvider("http://h", "hunter2\n\nx")
    assert "hunter2" not in str(caught.value)
    assert sent(OpenAIProvider("http://h", "hunter2"))["authorization"] == "Bearer hunter2"


def test_a_base_url_that_is_none():
    with pytest.raises(UserError, match="localhost:8000"):
        OpenAIProvider("localhost:8000", "k")


def test_by_name(monkeypatch):
    assert infer_provider_class("openai") is OpenAIProvider
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    assert isinstance(infer_provider("openai-chat"), OpenAIProvider)
    with pytest.raises(UserError, match="'nope'.*openai"):
        infer_provider("nope")


def test_models_by_their_string(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    for string in ("openai:gpt-4o", "openai-chat:gpt-4o"):
        model = infer_model(string)
        assert isinstance(model, OpenAIChatModel)
        assert (model.model_name, model.system, model.base_url) == (
            "gpt-4o",
            "openai",
            "https://api.openai.com/v1/",
        )
    assert "gpt-4o" in repr(model)
    assert isinstance(model.provider, Provider)
    assert isinstance(model.client, PoolClient)


def test_the_old_name_warns(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    with pytest.warns(DeprecationWarning, match="OpenAIChatModel"):
        OpenAIModel("gpt-4o")


@pytest.mark.parametrize(
    ("name", "refused", "role", "search"),
    [
        ("gpt-4o", False, None, False),
        ("gpt-4.1-mini", False, None, False),
        ("gpt-4o-search-preview", False, None, True),
        ("o1-mini", True, "user", False),
        ("o3", True, None, False),
        ("gpt-5", True, None, False),
        ("gpt-5.1-codex", True, None, False),
        ("gpt-5-chat-latest", False, None, False),
        ("llama-3", False, None, False),
    ],
)
def test_profiles(name, refused, role, search):
    profile = OpenAIProvider("http://h", "k").model_profile(name)
    assert isinstance(profile, OpenAIModelProfile)
    assert ("temperature" in profile.openai_unsupported_model_settings) is refused
    assert profile.openai_system_prompt_role == role
    assert profile.openai_chat_supports_web_search is search
    assert profile.supports_json_schema_output


def test_limits_of_time():
    provider = OpenAIProvider("http://h", "k", timeouts=Timeouts(total=5))
    assert provider.client.timeouts.total == 5
    assert OpenAIProvider("http://h", "k").client.timeouts == Timeouts(connect=10, total=600)


@pytest.mark.parametrize("leave", ["aclose", "block", "nothing"])
def test_no_socket_outlives_trio_run(leave):
    provider = None

    async def main():
        nonlocal provider
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(trio.serve_tcp, answer_all, 0)
            url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
            provider = OpenAIProvider(url, "k")
            if leave == "block":
                async with provider:
                    await provider.client.post("/x", b"{}")
                    assert provider.client.pool().statistics()["idle"] == 1
                assert provider.client.pool().statistics()["idle"] == 0
            else:
                await provider.client.post("/x", b"{}")
                if leave == "aclose":
                    await provider.aclose()
                    assert provider.client.pool().statistics()["idle"] == 0
            nursery.cancel_scope.cancel()

    trio.run(main)
    gc.collect()  # an open socket would warn, and warnings are errors
    trio.run(main)
    gc.collect()


async def answer_all(stream):
    try:
        async with stream:
            while await stream.receive_some(65536):
                await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
    except trio.BrokenResourceError:
        pass


def test_a_provider_that_is_dropped_closes_its_connections():
    async def main():
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(trio.serve_tcp, answer_all, 0)
            url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
            for _ in range(3):
                await OpenAIProvider(url, "k").client.post("/x", b"{}")
            # the pool is the run's: providers of the same settings share it
            assert OpenAIProvider(url, "other").client.pool().statistics()["idle"] == 1
            nursery.cancel_scope.cancel()

    trio.run(main)
    gc.collect()


async def test_a_users_client_is_left_alone():
    def handle(request):
        return httpx2.Response(200, json={})

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(handle)) as client:
        async with OpenAIProvider("http://h", "k", http_client=client) as provider:
            await provider.client.post("/x", b"")
        await provider.aclose()
        assert not client.is_closed
