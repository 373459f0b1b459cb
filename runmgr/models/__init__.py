"""Models: what an agent asks, whoever serves it.

`Model` and `StreamedResponse` are what every model implements; `infer_model` finds one by its string. The models
themselves are in modules of their own and imported only when used: `models.test`, `models.function`, `models.openai`,
`models.fallback`, `models.wrapper`, `models.instrumented`, ...
"""

ALLOW_MODEL_REQUESTS: bool = True
"""Whether models that leave the process may be asked; tests set it to False. In-process models don't look at it."""

# ruff: noqa: E402  (the switch above is read by the modules below)
from runmgr.messages import ModelResponsePartsManager
from runmgr.models.allow import check_allow_model_requests, override_allow_model_requests
from runmgr.models.base import Model
from runmgr.models.infer import KnownModelName, infer_model
from runmgr.models.stream import StreamedResponse
from runmgr.profiles import (
    DEFAULT_PROFILE,
    InlineDefsJsonSchemaTransformer,
    JsonSchemaTransformer,
    ModelProfile,
    ModelProfileSpec,
)
from runmgr.records.definitions import ModelRequestParameters, OutputObjectDefinition, ToolDefinition

__all__ = (
    "ALLOW_MODEL_REQUESTS",
    "DEFAULT_PROFILE",
    "InlineDefsJsonSchemaTransformer",
    "JsonSchemaTransformer",
    "KnownModelName",
    "Model",
    "ModelProfile",
    "ModelProfileSpec",
    "ModelRequestParameters",
    "ModelResponsePartsManager",
    "OutputObjectDefinition",
    "StreamedResponse",
    "ToolDefinition",
    "check_allow_model_requests",
    "infer_model",
    "override_allow_model_requests",
)
