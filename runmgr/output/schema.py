"""What an agent's output may look like, worked out once from ``output_type``."""

from __future__ import annotations

import types
import typing
from collections.abc import Sequence
from typing import Any, Generic, TypeVar, Union, cast, get_args, get_origin

import attrs
from typing_extensions import TypeAliasType

from runmgr.exceptions import UserError
from runmgr.messages import BinaryImage
from runmgr.output.markers import (
    NativeOutput,
    OutputDataT,
    OutputSpec,
    PromptedOutput,
    TextOutput,
    ToolOutput,
)
from runmgr.output.processors import (
    ObjectProcessor,
    Processor,
    TextFunctionProcessor,
    TextProcessor,
    UnionProcessor,
    is_output_function,
)
from runmgr.output.toolset import OutputToolset
from runmgr.records.definitions import OutputMode, OutputObjectDefinition
from runmgr.tools.deferred import DeferredToolRequests

__all__ = ("OutputSchema", "flat_outputs")


_T = TypeVar("_T")


@attrs.define(eq=False, kw_only=True)
class OutputSchema(Generic[OutputDataT]):
    """What an agent's output may look like.

    Args:
        mode: how the model is asked for it. ``auto`` leaves the choice to the model's profile: everything that the
            three structured modes need is there.
        allows_text: whether a text answer can be the output.
        allows_none: whether an empty answer is the output None. Never: the model is asked again, as in Pydantic AI 1.46,
            and gives None through an output tool.
        allows_image: whether an image can be the output.
        allows_deferred_tools: whether the run may end with ``DeferredToolRequests``.
        toolset: the output tools.
        text_processor: makes the output of a text answer.
        object_def: the schema for native and prompted output.
        template: what asks for prompted output; None takes the model profile's.
    """

    mode: OutputMode
    allows_text: bool = False
    allows_none: bool = False
    allows_image: bool = False
    allows_deferred_tools: bool = False
    toolset: OutputToolset[Any] | None = None
    text_processor: Processor | None = None
    object_def: OutputObjectDefinition | None = None
    template: str | None = None

    @staticmethod
    def build(
        output_type: OutputSpec[_T],
        *,
        name: str | None = None,
        description: str | None = None,
        strict: bool | None = None,
        default_mode: OutputMode = "auto",
    ) -> OutputSchema[_T]:
        """Work out what ``output_type`` means. Takes about a millisecond: do it once an agent.

        Args:
            output_type: types, functions, markers, or a sequence of them.
            name: the output tools' name, instead of ``final_result``.
            description: goes before what types say of themselves.
            strict: ask the provider to enforce schemas.
            default_mode: for types without a marker.

        Raises:
            UserError: the combination is not possible; says what is.
        """
        outputs = flat_outputs(output_type)
        deferred = DeferredToolRequests in outputs
        image = BinaryImage in outputs
        outputs = [o for o in outputs if o is not DeferredToolRequests and o is not BinaryImage]
        if not outputs and not image:
            raise UserError(
                "At least one output type must be provided other than `DeferredToolRequests`."
                if deferred
                else "At least one output type must be provided."
            )
        flags: dict[str, Any] = {"allows_deferred_tools": deferred, "allows_image": image}
        for marker in outputs:
            if isinstance(marker, NativeOutput | PromptedOutput):
                return _by_marker(outputs, cast("NativeOutput[Any] | PromptedOutput[Any]", marker), flags)

        text: Processor | None = None
        tools: list[Any] = []
        marked = False
        for output in outputs:
            if output is str or isinstance(output, TextOutput):
                if text is not None:
                    raise UserError("Only one `str` or `TextOutput` is allowed.")
                text = (
                    TextFunctionProcessor(cast("TextOutput[Any]", output).output_function)
                    if isinstance(output, TextOutput)
                    else TextProcessor()
                )
            else:
                marked = marked or isinstance(output, ToolOutput)
                tools.append(output)
        tools.sort(
            key=lambda output: not isinstance(output, ToolOutput)
        )  # marked ones come first, as in Pydantic AI
        if not tools:
            if text is None:
                return OutputSchema(mode="image", **flags)
            return OutputSchema(mode="text", allows_text=True, text_processor=text, **flags)
        toolset = OutputToolset[Any].build(tools, name=name, description=description, strict=strict)
        if marked or text is not None or default_mode == "tool":
            return OutputSchema(
                mode="tool", allows_text=text is not None, text_processor=text, toolset=toolset, **flags
            )
        processor = _processor(tools, name=name, description=description, strict=strict)
        return OutputSchema(
            mode=default_mode,
            allows_text=True,
            text_processor=processor,
            object_def=processor.object_def,
            toolset=toolset if default_mode == "auto" else None,
            **flags,
        )


_MARKERS = (ToolOutput, NativeOutput, PromptedOutput, TextOutput)


def _by_marker(
    outputs: list[Any], marker: NativeOutput[Any] | PromptedOutput[Any], flags: dict[str, Any]
) -> OutputSchema[Any]:
    native = isinstance(marker, NativeOutput)
    marker_kind = "native" if native else "prompted"
    if len(outputs) > 1:
        raise UserError(f"`{type(marker).__name__}` must be the only output type.")
    inner = flat_outputs(marker.outputs)
    name = type(marker).__name__
    if not inner:
        raise UserError(f"`{name}` holds no output type: give it at least one, as in `{name}(MyModel)`.")
    for output in inner:
        if output is DeferredToolRequests or output is BinaryImage:
            raise UserError(
                f"`{name}` cannot contain `{output.__name__}`. Include it alongside the {marker_kind} output marker "
                f"instead: `output_type=[{name}(...), {output.__name__}]`"
            )
        if isinstance(output, _MARKERS):
            other = cast("object", output).__class__.__name__
            raise UserError(f"`{name}` holds plain output types, not a `{other}`.")
    processor = _processor(
        inner,
        name=marker.name,
        description=marker.description,
        strict=marker.strict if isinstance(marker, NativeOutput) else None,
    )
    return OutputSchema[Any](
        mode=marker_kind,
        allows_text=True,
        text_processor=processor,
        object_def=processor.object_def,
        template=marker.template or None,
        **flags,
    )


def _processor(outputs: list[Any], **options: Any) -> ObjectProcessor | UnionProcessor:
    return UnionProcessor(outputs, **options) if len(outputs) > 1 else ObjectProcessor(outputs[0], **options)


# `type X = ...` (3.12) and its backport are two classes
_ALIASES: tuple[Any, ...] = (TypeAliasType, getattr(typing, "TypeAliasType", TypeAliasType))


def flat_outputs(output_type: Any) -> list[Any]:
    """The members of unions, sequences and type aliases, in order."""
    if isinstance(output_type, Sequence) and not isinstance(output_type, str):
        return [flat for item in cast("Sequence[Any]", output_type) for flat in flat_outputs(item)]
    if isinstance(output_type, _ALIASES):
        return flat_outputs(output_type.__value__)  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue]
    if not is_output_function(output_type) and get_origin(output_type) in (Union, types.UnionType):
        return [flat for item in get_args(output_type) for flat in flat_outputs(item)]
    return [output_type]
