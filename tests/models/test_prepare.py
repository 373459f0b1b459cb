"""Preparing a request: settings merged, parameters fitted to a profile; beside Pydantic AI's, and kept by identity."""

from dataclasses import dataclass, field
from datetime import datetime

import pytest

from runmgr.builtin_tools import CodeExecutionTool, MemoryTool, UrlContextTool, WebSearchTool
from runmgr.exceptions import UserError
from runmgr.messages import ModelRequest, ModelResponse, TextPart, UserPromptPart, now_utc
from runmgr.models import (
    InlineDefsJsonSchemaTransformer,
    Model,
    ModelProfile,
    ModelRequestParameters,
    OutputObjectDefinition,
    StreamedResponse,
    ToolDefinition,
)
from runmgr.models.function import FunctionModel
from runmgr.models.test import TestModel
from runmgr.usage import RequestUsage

SCHEMA = {
    "type": "object",
    "properties": {"a": {"$ref": "#/$defs/X"}},
    "required": ["a"],
    "$defs": {"X": {"type": "string"}},
}
PROFILES = {
    "default": {},
    "no tools": {"supports_tools": False},
    "native": {"supports_json_schema_output": True, "default_structured_output_mode": "native"},
    "prompted": {"default_structured_output_mode": "prompted"},
    "native, told": {
        "supports_json_schema_output": True,
        "native_output_requires_schema_in_instructions": True,
        "prompted_output_template": "as {schema}",
    },
    "images": {"supports_image_output": True},
}
MODES = ["text", "tool", "native", "prompted", "tool_or_text", "image", "auto"]


def shown(params):
    tools = [*params.function_tools, *params.output_tools]
    return {
        "mode": params.output_mode,
        "tools": [(t.name, t.kind, t.strict, t.parameters_json_schema) for t in tools],
        "builtin": params.builtin_tools,
        "output": params.output_object and (params.output_object.json_schema, params.output_object.strict),
        "template": params.prompted_output_template,
        "instructions": params.prompted_output_instructions,
        "text": params.allow_text_output,
        "image": params.allow_image_output,
    }


@pytest.mark.parametrize("transform", [False, True])
@pytest.mark.parametrize("image", [False, True])
@pytest.mark.parametrize("profile", PROFILES)
def test_parameters_are_pydantic_ais(same, profile, image, transform):
    async def scenario(lib, mode, template):
        how = {"json_schema_transformer": lib.InlineDefsJsonSchemaTransformer} if transform else {}
        model = lib.TestModel(
            profile=lib.ModelProfile(**PROFILES[profile], **how), settings={"temperature": 0.5, "seed": 1}
        )
        params = lib.ModelRequestParameters(
            output_mode=mode,
            function_tools=[lib.ToolDefinition(name="f", parameters_json_schema=SCHEMA)],
            output_tools=[
                lib.ToolDefinition(name="o", kind="output", parameters_json_schema=SCHEMA, strict=False)
            ],
            output_object=lib.OutputObjectDefinition(json_schema=SCHEMA, name="N", description="D"),
            prompted_output_template=template,
            allow_image_output=image,
        )
        settings, prepared = model.prepare_request({"temperature": 1.0}, params)
        return settings, shown(prepared)

    for mode in MODES:
        for template in (None, "like {schema}!", "no place for it"):
            same(scenario, mode, template)


def test_builtin_tools_are_checked_and_the_last_of_a_kind_is_used(same):
    async def scenario(lib, names):
        class Some(lib.TestModel):
            @classmethod
            def supported_builtin_tools(cls):
                # More than one would be listed in the order of a set.
                usual = {lib.WebSearchTool, lib.MemoryTool, lib.MCPServerTool}
                return frozenset({lib.WebSearchTool} if "code" in names else usual)

        tools = {
            "code": lib.CodeExecutionTool(),
            "files": lib.FileSearchTool(file_store_ids=["1"]),
            "search": lib.WebSearchTool(),
            "search 2": lib.WebSearchTool(max_uses=2),
            "memory": lib.MemoryTool(),
            "mcp 1": lib.MCPServerTool(id="a", url="1"),
            "mcp 2": lib.MCPServerTool(id="a", url="2"),
            "mcp 3": lib.MCPServerTool(id="b", url="3"),
        }
        params = lib.ModelRequestParameters(builtin_tools=[tools[name] for name in names])
        return Some().prepare_request(None, params)[1].builtin_tools

    same(scenario, ["search", "memory", "mcp 1", "mcp 2", "mcp 3", "search 2"])
    same(scenario, ["code", "files", "search"])
    same(scenario, [])


def test_the_old_name_of_web_fetch_warns():
    with pytest.warns(DeprecationWarning, match="WebFetchTool"):
        tool = UrlContextTool()
    assert tool.kind == "url_context"


def test_settings():
    params = ModelRequestParameters()
    given = {"max_tokens": 1}
    assert TestModel().prepare_request(None, params)[0] is None
    assert TestModel().prepare_request(given, params)[0] is given
    model = TestModel(settings={"max_tokens": 5, "temperature": 0.0})
    assert model.prepare_request(given, params)[0] == {"max_tokens": 1, "temperature": 0.0}
    assert model.settings == {"max_tokens": 5, "temperature": 0.0}
    assert given == {"max_tokens": 1}


def test_constant_parameters_are_prepared_once():
    calls = []

    class Counting(InlineDefsJsonSchemaTransformer):
        def walk(self):
            calls.append(self.schema)
            return super().walk()

    model = TestModel(profile=ModelProfile(json_schema_transformer=Counting))
    params = ModelRequestParameters(function_tools=[ToolDefinition(name="f", parameters_json_schema=SCHEMA)])
    first = model.prepare_request(None, params)[1]
    for _ in range(5):
        assert model.prepare_request({"seed": 1}, params)[1] is first
    assert len(calls) == 1
    assert params.function_tools[0].parameters_json_schema == SCHEMA
    # Many parameters, each used once: none of them is taken for another, and only a few are kept.
    for number in range(200):
        other = ModelRequestParameters(function_tools=[ToolDefinition(name=f"tool {number}")])
        assert model.prepare_request(None, other)[1].function_tools[0].name == f"tool {number}"
    assert model.prepare_request(None, params)[1].function_tools[0].name == "f"


def test_what_needs_no_change_is_the_same_object():
    params = ModelRequestParameters(function_tools=[ToolDefinition(name="f")])
    assert TestModel().prepare_request(None, params)[1] is params


def test_a_model_may_customize_parameters():
    class Mine(TestModel):
        def customize_request_parameters(self, model_request_parameters):
            return ModelRequestParameters(function_tools=[ToolDefinition(name="mine")])

    prepared = Mine().prepare_request(None, ModelRequestParameters())[1]
    assert [tool.name for tool in prepared.function_tools] == ["mine"]


def test_profiles():
    class Some(TestModel):
        @classmethod
        def supported_builtin_tools(cls):
            return frozenset({WebSearchTool, MemoryTool})

    allowed = ModelProfile(supported_builtin_tools=frozenset({WebSearchTool, CodeExecutionTool}))
    assert Some(profile=allowed).profile.supported_builtin_tools == {WebSearchTool}
    by_name = Some(model_name="m", profile=lambda name: ModelProfile(thinking_tags=(name, name)))
    assert by_name.profile.thinking_tags == ("m", "m")
    assert Some(profile=lambda name: None).profile.thinking_tags == ("<think>", "</think>")
    assert FunctionModel(lambda m, i: None).profile.supports_json_schema_output is True


async def test_a_model_of_ones_own():
    class Mine(Model):
        model_name = "mine"
        system = "me"

        async def request(self, messages, model_settings, model_request_parameters):
            settings, _ = self.prepare_request(model_settings, model_request_parameters)
            return ModelResponse([TextPart(f"{settings}")])

    messages = [ModelRequest([UserPromptPart("q")])]
    model = Mine(settings={"seed": 1})
    assert (await model.request(messages, None, ModelRequestParameters())).text == "{'seed': 1}"
    # One try is all that such a model makes anyway.
    assert (await model.request_once(messages, {"seed": 2}, ModelRequestParameters())).text == "{'seed': 2}"
    assert model.base_url is None
    assert model.model_id == "me:mine"
    assert model.supported_builtin_tools() == frozenset()
    for stream in (model.request_stream, model.request_stream_once):
        with pytest.raises(NotImplementedError, match="Streamed requests not supported by this Mine"):
            async with stream(messages, None, ModelRequestParameters()):
                pass
    with pytest.raises(
        NotImplementedError, match="Token counting ahead of the request is not supported by Mine"
    ):
        await model.count_tokens(messages, None, ModelRequestParameters())
    with pytest.raises(UserError, match="Native structured output is not supported by this model"):
        await model.request(messages, None, ModelRequestParameters(output_mode="native"))
    async with model as entered:
        assert entered is model
    await model.aclose()


@pytest.mark.parametrize(
    "name",
    ["gpt-5", "gpt-4o-mini", "claude-sonnet-4-5", "gemini-2.5-pro", "meta-llama/llama-3-70b", "test", "o1", "a--b",
     "claude-3-5-sonnet-20240620", "GPT-5", "gpt_4", "Qwen/Qwen2.5-72B-Instruct", "llama3-8b", "function:f:"],
)  # fmt: skip
def test_labels_are_pydantic_ais(same, name):
    async def scenario(lib):
        return lib.TestModel(model_name=name).label

    same(scenario)


def test_output_objects_without_a_mode_for_them_are_dropped():
    output = OutputObjectDefinition(json_schema=SCHEMA)
    params = ModelRequestParameters(output_mode="tool", output_object=output)
    assert TestModel().prepare_request(None, params)[1].output_object is None
    assert params.output_object is output


async def test_a_streamed_response_of_ones_own_may_be_a_dataclass():
    @dataclass
    class Mine(StreamedResponse):
        words: list[str]
        provider_name = "me"
        model_name = "mine"
        _began: datetime = field(default_factory=now_utc, init=False)

        @property
        def timestamp(self):
            return self._began

        async def _get_event_iterator(self):
            self._usage.output_tokens = len(self.words)
            for word in self.words:
                for event in self._parts_manager.handle_text_delta(vendor_part_id=None, content=word):
                    yield event
            self.finish_reason = "stop"

    response = Mine(model_request_parameters=ModelRequestParameters(), words=["a ", "b"])
    events = [type(event).__name__ async for event in response]
    assert events == ["PartStartEvent", "FinalResultEvent", "PartDeltaEvent", "PartEndEvent"]
    assert response.get() == ModelResponse(
        [TextPart("a b")],
        usage=RequestUsage(output_tokens=2),
        model_name="mine",
        provider_name="me",
        finish_reason="stop",
        timestamp=response.timestamp,
    )
    # Another response has parts and usage of its own.
    assert Mine(model_request_parameters=ModelRequestParameters(), words=[]).get().parts == []
