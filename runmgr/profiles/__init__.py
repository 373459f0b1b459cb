"""What a family of models can do, and how its JSON schemas must look.

A provider knows the profiles of its models; a model class maps requests accordingly.
"""

from runmgr.profiles.json_schema import InlineDefsJsonSchemaTransformer, JsonSchema, JsonSchemaTransformer
from runmgr.profiles.profile import DEFAULT_PROFILE, ModelProfile, ModelProfileSpec, StructuredOutputMode

__all__ = (
    "DEFAULT_PROFILE",
    "InlineDefsJsonSchemaTransformer",
    "JsonSchema",
    "JsonSchemaTransformer",
    "ModelProfile",
    "ModelProfileSpec",
    "StructuredOutputMode",
)
