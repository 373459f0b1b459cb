"""Messages from the model, and their parts."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import msgspec
from msgspec import field
from typing_extensions import deprecated

from runmgr.messages.base import MessageValue, Observed
from runmgr.messages.clock import now_utc
from runmgr.messages.content import BinaryContent, BinaryImage
from runmgr.messages.ids import generate_tool_call_id
from runmgr.messages.requests import BaseToolReturnPart
from runmgr.usage import RequestUsage

if TYPE_CHECKING:
    from genai_prices.types import PriceCalculation

__all__ = (
    "BaseToolCallPart",
    "BuiltinToolCallPart",
    "BuiltinToolReturnPart",
    "FilePart",
    "FinishReason",
    "ModelResponse",
    "ModelResponsePart",
    "TextPart",
    "ThinkingPart",
    "ToolCallPart",
)

FinishReason: TypeAlias = Literal["stop", "length", "content_filter", "tool_call", "error"]
"""Why the model stopped, in OpenTelemetry's words; the provider's own word is in ``provider_details``."""


class _Text(MessageValue, tag_field="part_kind", gc=False):
    content: str


class TextPart(_Text, kw_only=True, tag="text", gc=False):
    """Text that the model wrote.

    Args:
        content: the text.
        id: the provider's id of the part.
        provider_details: what the provider wants back with it in later requests.
    """

    part_kind: ClassVar[Literal["text"]] = "text"

    id: str | None = None
    provider_details: dict[str, Any] | None = None

    def has_content(self) -> bool:
        """Whether the text is not empty."""
        return bool(self.content)


class ThinkingPart(_Text, kw_only=True, tag="thinking", gc=False):
    """What the model thought before it answered.

    Args:
        content: the thoughts, as far as the provider shows them.
        id: the provider's id of the part.
        signature: the provider's proof that it wrote them (or the encrypted thoughts themselves).
        provider_name: the provider; signatures are sent back to this one only.
        provider_details: what the provider wants back with it in later requests.
    """

    part_kind: ClassVar[Literal["thinking"]] = "thinking"

    id: str | None = None
    signature: str | None = None
    provider_name: str | None = None
    provider_details: dict[str, Any] | None = None

    def has_content(self) -> bool:
        """Whether the text is not empty."""
        return bool(self.content)


class _File(MessageValue, tag_field="part_kind", gc=False):
    content: BinaryContent


class FilePart(_File, kw_only=True, tag="file", gc=False):
    """A file that the model made; images are held as ``BinaryImage``.

    Args:
        content: the file.
        id: the provider's id of the part.
        provider_name: the provider.
        provider_details: what the provider wants back with it in later requests.
    """

    part_kind: ClassVar[Literal["file"]] = "file"

    id: str | None = None
    provider_name: str | None = None
    provider_details: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        self.content = BinaryContent.narrow_type(self.content)

    def has_content(self) -> bool:
        """Whether the file is not empty."""
        return bool(self.content.data)


class _Call(MessageValue, tag_field="part_kind", gc=False):
    tool_name: str
    args: str | dict[str, Any] | None = None
    tool_call_id: str = field(default_factory=generate_tool_call_id)


class BaseToolCallPart(_Call, kw_only=True, gc=False):
    """What the two kinds of tool calls have in common."""

    id: str | None = None
    provider_details: dict[str, Any] | None = None

    def args_as_dict(self) -> dict[str, Any]:
        """The arguments as a dict; no arguments are an empty one.

        Raises ``ValueError`` where they are a text that is not JSON, ``AssertionError`` where the JSON is no object.
        """
        args = self.args
        if not args:
            return {}
        if isinstance(args, dict):
            return args
        try:
            decoded = msgspec.json.decode(args)
        except msgspec.DecodeError:
            # JSON's borders (NaN, deep nesting) are where decoders differ: ask the one that users know.
            from pydantic_core import from_json

            decoded = from_json(args)
        assert isinstance(decoded, dict), "args should be a dict"
        return decoded  # pyright: ignore[reportUnknownVariableType]

    def args_as_json_str(self) -> str:
        """The arguments as JSON; a text is taken as it is, no arguments are ``{}``."""
        args = self.args
        if not args:
            return "{}"
        if isinstance(args, str):
            return args
        from runmgr.messages.codec import dump_any

        return dump_any(args).decode()

    def has_content(self) -> bool:
        """Whether there are arguments that say something: a text, or a dict with a value that is not empty or zero."""
        args = self.args
        return any(args.values()) if isinstance(args, dict) else bool(args)


class ToolCallPart(BaseToolCallPart, kw_only=True, tag="tool-call", gc=False):
    """The model calls a tool.

    Args:
        tool_name: the tool.
        args: the arguments, as JSON text or as a dict.
        tool_call_id: the id that the return is to carry.
        id: the provider's id of the part, where it differs from that of the call.
        provider_details: what the provider wants back with it in later requests.
    """

    part_kind: ClassVar[Literal["tool-call"]] = "tool-call"


class BuiltinToolCallPart(BaseToolCallPart, kw_only=True, tag="builtin-tool-call", gc=False):
    """The model called a tool that the provider runs itself; as :class:`ToolCallPart`, with the provider's name."""

    part_kind: ClassVar[Literal["builtin-tool-call"]] = "builtin-tool-call"

    provider_name: str | None = None


class BuiltinToolReturnPart(BaseToolReturnPart, kw_only=True, tag="builtin-tool-return"):
    """The result of a tool that the provider ran itself; as ``ToolReturnPart``, with the provider's name."""

    part_kind: ClassVar[Literal["builtin-tool-return"]] = "builtin-tool-return"

    provider_name: str | None = None
    provider_details: dict[str, Any] | None = None


ModelResponsePart: TypeAlias = (
    TextPart | ToolCallPart | BuiltinToolCallPart | BuiltinToolReturnPart | ThinkingPart | FilePart
)


class _Parts(Observed, tag_field="kind"):
    parts: list[ModelResponsePart]


class ModelResponse(_Parts, kw_only=True, tag="response", forbid_unknown_fields=True):
    """A message from the model.

    Args:
        parts: what it says.
        usage: the tokens it took.
        model_name: the model that answered.
        timestamp: when it answered, by the provider's clock where it tells.
        provider_name: who answered.
        provider_url: at which base URL.
        provider_details: what of the answer fits nowhere else.
        provider_response_id: the provider's id of the answer.
        finish_reason: why the model stopped.
        run_id: the run that asked.
        metadata: for the program; the model does not see it.
    """

    # Unknown fields are refused, so that old names reach `compat`, which knows them and drops what is really unknown.

    kind: ClassVar[Literal["response"]] = "response"

    usage: RequestUsage = field(default_factory=RequestUsage)
    model_name: str | None = None
    timestamp: datetime = field(default_factory=now_utc)
    provider_name: str | None = None
    provider_url: str | None = None
    provider_details: dict[str, Any] | None = None
    provider_response_id: str | None = None
    finish_reason: FinishReason | None = None
    run_id: str | None = None
    metadata: dict[str, Any] | None = None

    @property
    def text(self) -> str | None:
        """All text; texts that other parts lie between are separated by a blank line. None if there is no text part."""
        texts: list[str] = []
        adjacent = False
        for part in self.parts:
            if type(part) is TextPart:
                if adjacent:
                    texts[-1] += part.content
                else:
                    texts.append(part.content)
                adjacent = True
            else:
                adjacent = False
        return "\n\n".join(texts) if texts else None

    @property
    def thinking(self) -> str | None:
        """All thoughts, separated by blank lines. None if there are none."""
        thoughts = [part.content for part in self.parts if isinstance(part, ThinkingPart)]
        return "\n\n".join(thoughts) if thoughts else None

    @property
    def files(self) -> list[BinaryContent]:
        """The files that the model made."""
        return [part.content for part in self.parts if isinstance(part, FilePart)]

    @property
    def images(self) -> list[BinaryImage]:
        """The images among the files."""
        return [file for file in self.files if isinstance(file, BinaryImage)]

    @property
    def tool_calls(self) -> list[ToolCallPart]:
        """The calls of tools that we are to run."""
        return [part for part in self.parts if isinstance(part, ToolCallPart)]

    @property
    def builtin_tool_calls(self) -> list[tuple[BuiltinToolCallPart, BuiltinToolReturnPart]]:
        """The calls of tools that the provider ran, each with its return; calls without one are left out."""
        calls = {part.tool_call_id: part for part in self.parts if isinstance(part, BuiltinToolCallPart)}
        return [
            (calls[part.tool_call_id], part)
            for part in self.parts
            if isinstance(part, BuiltinToolReturnPart) and part.tool_call_id in calls
        ]

    def cost(self) -> PriceCalculation:
        """What the response cost, by genai-prices.

        The price is an estimate from public price lists. Imports genai-prices and looks the model up in its tables.

        Raises ``AssertionError`` without a model name, ``LookupError`` for a model that it does not know.
        """
        assert self.model_name, "Model name is required to calculate price"
        from genai_prices import calc_price

        if self.provider_url:
            # A provider is known better by its URL than by our name for it, but the URL may be a proxy's.
            try:
                return calc_price(
                    self.usage,
                    self.model_name,
                    provider_api_url=self.provider_url,
                    genai_request_timestamp=self.timestamp,
                )
            except LookupError:
                pass
        return calc_price(
            self.usage,
            self.model_name,
            provider_id=self.provider_name,
            genai_request_timestamp=self.timestamp,
        )

    @deprecated("`price` is deprecated, use `cost` instead")
    def price(self) -> PriceCalculation:
        """Old name of :meth:`cost`."""
        return self.cost()

    @property
    @deprecated("`vendor_details` is deprecated, use `provider_details` instead")
    def vendor_details(self) -> dict[str, Any] | None:
        """Old name of ``provider_details``."""
        return self.provider_details

    @property
    @deprecated("`vendor_id` is deprecated, use `provider_response_id` instead")
    def vendor_id(self) -> str | None:
        """Old name of ``provider_response_id``."""
        return self.provider_response_id

    @property
    @deprecated("`provider_request_id` is deprecated, use `provider_response_id` instead")
    def provider_request_id(self) -> str | None:
        """Old name of ``provider_response_id``."""
        return self.provider_response_id
