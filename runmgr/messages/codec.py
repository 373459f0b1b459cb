"""Messages to JSON and back, in Pydantic AI's wire format.

The fast path is msgspec's own codec for the structs. Before encoding, :func:`wire_form` looks for the few things
that msgspec would write differently from Pydantic AI (tool results that are no plain text, files) and puts their wire
form in place, in a copy. When decoding fails, ``compat`` reads the same data again, slower and more forgivingly: old
names, other spellings of dates, numbers as text. Unknown kinds of messages and parts are errors, never guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, TypeAlias, cast

import msgspec

from runmgr.messages._base64 import Base64, decode_base64, encode_base64
from runmgr.messages.base import MessageValue
from runmgr.messages.content import (
    AudioUrl,
    BinaryContent,
    BinaryImage,
    DocumentUrl,
    FileUrl,
    ImageUrl,
    ToolReturn,
    UserContent,
    VideoUrl,
)
from runmgr.messages.events import (
    BuiltinToolResultEvent,
    FunctionToolResultEvent,
    PartEndEvent,
    PartStartEvent,
)
from runmgr.messages.requests import ModelRequest, RetryPromptPart, ToolReturnPart, UserPromptPart
from runmgr.messages.responses import BuiltinToolReturnPart, FilePart, ModelResponse
from runmgr.structs import Value, replace

__all__ = (
    "ModelMessage",
    "any_to_plain",
    "decode_message",
    "decode_messages",
    "dump_any",
    "encode_message",
    "encode_messages",
    "from_plain",
    "to_plain",
    "wire_form",
    "wire_forms",
    "wire_hook",
)

ModelMessage: TypeAlias = ModelRequest | ModelResponse
"""A message of a history."""


# ------------------------------------------------------------------ users' own objects


@cache
def _any_serializer() -> Any:
    # Loaded late: pydantic is only needed when a tool returns something that is no text.
    from pydantic import ConfigDict, TypeAdapter

    config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
    return TypeAdapter[Any](Any, config=config).serializer


def _fallback(value: object) -> Any:
    """What pydantic does not know but we do: structs and attrs classes."""
    if isinstance(value, MessageValue):
        return to_plain(value, json=True)
    if isinstance(value, msgspec.Struct) or hasattr(value, "__attrs_attrs__"):
        return msgspec.to_builtins(value, enc_hook=wire_hook)
    raise TypeError(f"Unable to serialize unknown type: {type(value)}")


def dump_any(value: Any) -> bytes:
    """JSON of whatever a tool returned: pydantic models, dataclasses, attrs, structs, dates, bytes, sets, ...

    Raises ``ValueError`` (pydantic's) for an object that has no JSON form; the message names its type.
    """
    return _any_serializer().to_json(value, fallback=_fallback)


def any_to_plain(value: Any) -> Any:
    """``value`` as dicts, lists, texts and numbers; see :func:`dump_any`."""
    return _any_serializer().to_python(value, mode="json", fallback=_fallback)


def dump_error_details(details: list[dict[str, Any]]) -> str:
    """Pydantic's error details as indented JSON for the model, without the exceptions in ``ctx``."""
    shown = [{key: value for key, value in item.items() if key != "ctx"} for item in details]
    return _any_serializer().to_json(shown, indent=2, fallback=str).decode()


def wire_hook(value: Any) -> Any:
    """What msgspec asks about values that it does not know."""
    return any_to_plain(value)


# ------------------------------------------------------------------ encoding

_PLAIN_TYPES = (str, type(None), bool, int)


def _raw(value: Any) -> Any:
    return value if type(value) in _PLAIN_TYPES else msgspec.Raw(dump_any(value))


def _wire_file(file: BinaryContent) -> dict[str, Any]:
    return {
        "data": encode_base64(file.data),
        "media_type": file.media_type,
        "vendor_metadata": file.vendor_metadata,
        "kind": "binary",
        "identifier": file.identifier,
    }


def _wire_url(url: FileUrl) -> dict[str, Any]:
    try:
        media_type = url.media_type
    except ValueError:  # its ending tells nothing: the reader will meet the same error when it asks
        media_type = None
    return {
        "url": url.url,
        "force_download": url.force_download,
        "vendor_metadata": url.vendor_metadata,
        "kind": url.kind,
        "media_type": media_type,
        "identifier": url.identifier,
    }


_WIRE_CONTENT: dict[type, Callable[[Any], Any]] = {
    ImageUrl: _wire_url,
    AudioUrl: _wire_url,
    DocumentUrl: _wire_url,
    VideoUrl: _wire_url,
    BinaryContent: _wire_file,
    BinaryImage: _wire_file,
}


def _wire_user_content(content: Sequence[UserContent] | None) -> Any:
    if type(content) is str or content is None:
        return content
    wire: list[Any] = []
    for item in content:
        convert = _WIRE_CONTENT.get(type(item))
        wire.append(item if convert is None else convert(item))
    return wire


def _wire_prompt(part: UserPromptPart) -> UserPromptPart:
    if type(part.content) is str:
        return part
    return replace(part, content=_wire_user_content(part.content))


def _wire_return(part: Any) -> Any:
    if type(part.content) in _PLAIN_TYPES and part.metadata is None:
        return part
    return replace(part, content=_raw(part.content), metadata=_raw(part.metadata))


def _wire_retry(part: RetryPromptPart) -> RetryPromptPart:
    if type(part.content) is str:
        return part
    return replace(part, content=msgspec.Raw(_any_serializer().to_json(part.content, fallback=str)))


class _WireFilePart(msgspec.Struct, tag_field="part_kind", tag="file"):
    # `FilePart` would narrow the type of what is no file any more.
    content: Any
    id: str | None
    provider_name: str | None
    provider_details: Any


def _wire_file_part(part: FilePart) -> Any:
    return _WireFilePart(_wire_file(part.content), part.id, part.provider_name, part.provider_details)


_WIRE_PARTS: dict[type, Callable[[Any], Any]] = {
    UserPromptPart: _wire_prompt,
    ToolReturnPart: _wire_return,
    BuiltinToolReturnPart: _wire_return,
    RetryPromptPart: _wire_retry,
    FilePart: _wire_file_part,
}


_RETURNS = frozenset({ToolReturnPart, BuiltinToolReturnPart})


def wire_form(message: ModelMessage) -> Any:
    """``message`` as msgspec is to write it, with `wire_hook`: itself, or where it holds something that needs its wire form, a copy that holds that."""
    part: Any
    for part in message.parts:
        kind = type(part)  # pyright: ignore[reportUnknownVariableType]
        if kind in _WIRE_PARTS and (
            type(part.content) not in _PLAIN_TYPES or (kind in _RETURNS and part.metadata is not None)
        ):
            return _wire_copy(message)
    return message if message.metadata is None else replace(message, metadata=_raw(message.metadata))


def wire_forms(messages: list[ModelMessage]) -> list[Any]:
    """`wire_form` of each: the list itself where none of them needs another, as is the rule."""
    part: Any
    for message in messages:
        if message.metadata is not None:
            return list(map(wire_form, messages))
        for part in message.parts:
            kind = type(part)  # pyright: ignore[reportUnknownVariableType]
            if kind in _WIRE_PARTS and (
                type(part.content) not in _PLAIN_TYPES or (kind in _RETURNS and part.metadata is not None)
            ):
                return list(map(wire_form, messages))
    return messages


def _wire_copy(message: ModelMessage) -> Any:
    parts = list[Any](message.parts)
    for index, part in enumerate(parts):
        convert = _WIRE_PARTS.get(cast("type[Any]", type(part)))
        if convert is not None:
            parts[index] = convert(part)
    metadata = None if message.metadata is None else _raw(message.metadata)
    return replace(message, parts=parts, metadata=metadata)


def _wire_result_event(event: FunctionToolResultEvent) -> FunctionToolResultEvent:
    return replace(event, result=_wire(event.result), content=_wire_user_content(event.content))


def _wire_part_event(event: PartStartEvent | PartEndEvent) -> PartStartEvent | PartEndEvent:
    part = _wire(event.part)
    return event if part is event.part else replace(event, part=part)


def _wire_builtin_result_event(event: BuiltinToolResultEvent) -> dict[str, Any]:
    # A copy of the event would warn that it is deprecated.
    return {"event_kind": event.event_kind, "result": _wire(event.result)}


def _wire_tool_return(value: ToolReturn) -> ToolReturn:
    return replace(
        value,
        return_value=_raw(value.return_value),
        content=_wire_user_content(value.content),
        metadata=_raw(value.metadata),
    )


_WIRE: dict[type, Callable[[Any], Any]] = {
    **_WIRE_CONTENT,
    **_WIRE_PARTS,
    ModelRequest: wire_form,
    ModelResponse: wire_form,
    ToolReturn: _wire_tool_return,
    PartStartEvent: _wire_part_event,
    PartEndEvent: _wire_part_event,
    FunctionToolResultEvent: _wire_result_event,
    BuiltinToolResultEvent: _wire_builtin_result_event,
}


def _wire(value: object) -> Any:
    """The wire form of any message value."""
    convert = _WIRE.get(type(value))
    return value if convert is None else convert(value)


_encoder = msgspec.json.Encoder(enc_hook=wire_hook)


def encode_message(message: ModelMessage) -> bytes:
    """One message as JSON. Raises ``ValueError`` or ``TypeError`` for contents that have no JSON form."""
    return _encoder.encode(wire_form(message))


def encode_messages(messages: Iterable[ModelMessage]) -> bytes:
    """A history as JSON, as :func:`decode_messages` and Pydantic AI read it.

    Raises ``ValueError`` or ``TypeError`` for contents that have no JSON form.
    """
    return _encoder.encode([wire_form(message) for message in messages])


def encode_value(value: Any) -> bytes:
    """Any message value (part, content, event, message) as JSON."""
    return _encoder.encode(_wire(value))


# ------------------------------------------------------------------ decoding


def message_hook(kind: type, value: Any) -> Any:
    """What decoders of types with messages in them are given as ``dec_hook``."""
    if kind is Base64:
        return decode_base64(value)
    raise NotImplementedError


_message_decoder: msgspec.json.Decoder[ModelMessage] = msgspec.json.Decoder(
    ModelMessage, dec_hook=message_hook
)
_messages_decoder = msgspec.json.Decoder(list[ModelMessage], dec_hook=message_hook)


def decode_message(data: bytes | str) -> ModelMessage:
    """A message from its JSON. Raises ``ValueError`` (pydantic's ``ValidationError``) where it is none."""
    try:
        return _message_decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        from runmgr.messages.compat import load

        return load(data, ModelMessage)


def decode_messages(data: bytes | str) -> list[ModelMessage]:
    """A history from its JSON: ours, Pydantic AI's, or that of its older versions.

    Raises ``ValueError`` (pydantic's ``ValidationError``) where it is none: broken JSON, unknown kinds of messages or
    parts, values of the wrong type. Unknown fields are dropped.
    """
    try:
        return _messages_decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        from runmgr.messages.compat import load_messages

        return load_messages(data)


def from_plain(value: Any, kind: Any) -> Any:
    """An instance of ``kind`` (a message class, or a union or list of them) from dicts and lists, or instances.

    Raises ``ValueError`` (pydantic's ``ValidationError``) where they do not fit.
    """
    from runmgr.messages.compat import convert

    return convert(value, kind, message_hook)


# ------------------------------------------------------------------ plain Python


def to_plain(value: Any, *, json: bool) -> Any:
    """``value`` (a message value, or a list of them) as dicts and lists, as Pydantic AI's ``dump_python`` gives them.

    Args:
        value: what to take apart.
        json: only what JSON has (texts for dates and bytes), or Python's own objects where there are some.
    """
    if json:
        if isinstance(value, list):
            return [msgspec.json.decode(encode_value(item)) for item in value]  # pyright: ignore[reportUnknownVariableType]
        return msgspec.json.decode(encode_value(value))
    return _to_python(value)


def _to_python(value: Any) -> Any:
    if isinstance(value, Value):
        plain = {name: _to_python(getattr(value, name)) for name in _named(value)}
        config = value.__struct_config__
        if config.tag_field is not None:
            plain[config.tag_field] = config.tag
        return plain
    if isinstance(value, list):
        return [_to_python(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, dict):
        return {key: _to_python(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if type(value) in _PLAIN_TYPES:
        return value
    return _any_serializer().to_python(value, fallback=_fallback)


def _named(value: Value) -> Iterable[str]:
    names = value.__struct_fields__
    if isinstance(value, FileUrl):
        try:
            _ = value.media_type
        except ValueError:
            return [name for name in names if name != "media_type"]
    return names
