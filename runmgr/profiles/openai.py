"""What OpenAI's models can do, and which JSON schemas they take."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from runmgr.exceptions import UserError
from runmgr.profiles.json_schema import JsonSchema, JsonSchemaTransformer
from runmgr.profiles.profile import ModelProfile

__all__ = (
    "OpenAIJsonSchemaTransformer",
    "OpenAIModelProfile",
    "OpenAISystemPromptRole",
    "openai_model_profile",
)

OpenAISystemPromptRole: TypeAlias = Literal["system", "developer", "user"]

SAMPLING_SETTINGS = (
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
)
"""What reasoning models refuse; ``logprobs`` stands for ``openai_logprobs`` too."""


@dataclass(kw_only=True)
class OpenAIModelProfile(ModelProfile):
    """A profile with the switches of models behind OpenAI's APIs, or servers that are compatible with them.

    Args:
        openai_chat_thinking_field: the field of a message with the model's thoughts; ``reasoning`` and
            ``reasoning_content`` are read in any case.
        openai_chat_send_back_thinking_parts: how thoughts of earlier turns are sent: inside the text between the profile's
            ``thinking_tags``, in ``openai_chat_thinking_field``, or not at all.
        openai_supports_strict_tool_definition: tools and outputs may be ``strict``.
        openai_supports_sampling_settings: False drops temperature and its kin from requests.
        openai_unsupported_model_settings: settings that are dropped from requests.
        openai_supports_tool_choice_required: ``tool_choice: required`` works.
        openai_system_prompt_role: the role of system prompts; ``system`` where None.
        openai_chat_supports_web_search: chat completions take ``web_search_options``.
        openai_chat_audio_input_encoding: audio is sent as bare base64 or as a data URI.
        openai_chat_supports_file_urls: files may be named by URL.
        openai_chat_supports_max_completion_tokens: False sends ``max_tokens``, the older name.
        openai_supports_encrypted_reasoning_content: the Responses API returns encrypted reasoning.
        openai_responses_requires_function_call_status_none: function calls are sent back without a status.
    """

    openai_chat_thinking_field: str | None = None
    openai_chat_send_back_thinking_parts: Literal["tags", "field", False] = "tags"
    openai_supports_strict_tool_definition: bool = True
    openai_supports_sampling_settings: bool = True
    openai_unsupported_model_settings: Sequence[str] = ()
    openai_supports_tool_choice_required: bool = True
    openai_system_prompt_role: OpenAISystemPromptRole | None = None
    openai_chat_supports_web_search: bool = False
    openai_chat_audio_input_encoding: Literal["base64", "uri"] = "base64"
    openai_chat_supports_file_urls: bool = False
    openai_chat_supports_max_completion_tokens: bool = True
    openai_supports_encrypted_reasoning_content: bool = False
    openai_responses_requires_function_call_status_none: bool = False

    def __post_init__(self) -> None:
        if self.openai_chat_send_back_thinking_parts == "field" and not self.openai_chat_thinking_field:
            raise UserError(
                'openai_chat_send_back_thinking_parts="field" needs openai_chat_thinking_field, the name of the field'
            )


_REASONING = re.compile(r"o\d|gpt-5(?!-chat)")


def openai_model_profile(model_name: str) -> ModelProfile:
    """The profile of an OpenAI model by its name; names that are not OpenAI's get that of a plain chat model."""
    reasoning = _REASONING.match(model_name) is not None
    return OpenAIModelProfile(
        json_schema_transformer=OpenAIJsonSchemaTransformer,
        supports_json_schema_output=True,
        supports_json_object_output=True,
        supports_image_output=model_name.startswith(("gpt-5", "o3", "gpt-4.1", "gpt-4o")),
        openai_unsupported_model_settings=SAMPLING_SETTINGS if reasoning else (),
        # o1-mini refuses system messages: https://github.com/pydantic/pydantic-ai/issues/974 has the error
        openai_system_prompt_role="user" if model_name.startswith("o1-mini") else None,
        openai_chat_supports_web_search="-search-preview" in model_name,
        openai_supports_encrypted_reasoning_content=reasoning,
    )


# https://platform.openai.com/docs/guides/structured-outputs#supported-schemas
_NOT_STRICT = (
    "minLength",
    "maxLength",
    "patternProperties",
    "unevaluatedProperties",
    "propertyNames",
    "minProperties",
    "maxProperties",
    "unevaluatedItems",
    "contains",
    "minContains",
    "maxContains",
    "uniqueItems",
)
_STRICT_FORMATS = frozenset({
    "date-time",
    "time",
    "date",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "uuid",
})  # fmt: skip
_NOISE = ("title", "$schema", "discriminator")


class OpenAIJsonSchemaTransformer(JsonSchemaTransformer):
    """Fits schemas to OpenAI's strict mode.

    With ``strict=True`` a schema is made to fit: constraints that strict mode lacks move into the description, every
    property becomes required, nothing beside them is allowed. With None the schema keeps its meaning, and
    ``is_strict_compatible`` says whether it fits as it is. With False it is only tidied.
    """

    def __init__(self, schema: JsonSchema, *, strict: bool | None = None) -> None:
        super().__init__(schema, strict=strict)
        self._root = schema.get("$ref")

    def walk(self) -> JsonSchema:
        """The transformed schema; a root that is a reference is put in its place, which OpenAI insists on."""
        result = super().walk()
        root = self._root
        if root is None:
            return result
        defs: dict[str, JsonSchema] = result.get("$defs", {})
        result.pop("$ref", None)
        result.update(defs.get(root.removeprefix("#/$defs/"), {}))
        return result

    def transform(self, schema: JsonSchema) -> JsonSchema:
        """One level."""
        for name in _NOISE:
            schema.pop(name, None)
        if "default" in schema:
            self._unfit(schema, "default")
        if "$ref" in schema:
            ref = schema["$ref"]
            if ref == self._root:
                schema["$ref"] = ref = "#"
            if len(schema) > 1:  # strict mode takes nothing beside a reference
                del schema["$ref"]
                schema["anyOf"] = [{"$ref": ref}]
        notes: list[str] = []
        unfit = [name for name in _NOT_STRICT if name in schema]
        if "format" in schema and schema["format"] not in _STRICT_FORMATS:
            unfit.append("format")
        for name in unfit:
            notes.append(f"{name}={schema[name]}")
            self._unfit(schema, name)
        if notes and self.strict is True:
            note = ", ".join(notes)
            described = schema.get("description")
            schema["description"] = f"{described} ({note})" if described else note
        if "oneOf" in schema:
            if self.strict is True:
                schema["anyOf"] = schema.pop("oneOf")
            else:
                self.is_strict_compatible = False
        if schema.get("type") == "object":
            self._object(schema)
        return schema

    def _unfit(self, schema: JsonSchema, name: str) -> None:
        if self.strict is True:
            del schema[name]
        elif self.strict is None:
            self.is_strict_compatible = False

    def _object(self, schema: JsonSchema) -> None:
        properties: dict[str, Any] = schema.setdefault("properties", {})
        if self.strict is True:
            schema["additionalProperties"] = False
            schema["required"] = list(properties)
        elif self.strict is None:
            if schema.get("additionalProperties", False) is not False:
                self.is_strict_compatible = False
            else:
                schema["additionalProperties"] = False
            if "required" not in schema or any(name not in schema["required"] for name in properties):
                self.is_strict_compatible = False
