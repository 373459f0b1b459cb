"""Outputs: what a run's result may be, how the model is asked for it, and how it is validated."""

from runmgr.output.markers import (
    NativeOutput,
    OutputDataT,
    OutputSpec,
    OutputTypeOrFunction,
    PromptedOutput,
    StructuredDict,
    StructuredOutputMode,
    TextOutput,
    TextOutputFunc,
    ToolOutput,
)
from runmgr.output.schema import OutputSchema
from runmgr.output.toolset import OutputToolset
from runmgr.output.validator import OutputValidator, OutputValidatorFunc
from runmgr.records.definitions import OutputMode, OutputObjectDefinition

__all__ = (
    "NativeOutput",
    "OutputDataT",
    "OutputMode",
    "OutputObjectDefinition",
    "OutputSchema",
    "OutputSpec",
    "OutputToolset",
    "OutputTypeOrFunction",
    "OutputValidator",
    "OutputValidatorFunc",
    "PromptedOutput",
    "StructuredDict",
    "StructuredOutputMode",
    "TextOutput",
    "TextOutputFunc",
    "ToolOutput",
)
