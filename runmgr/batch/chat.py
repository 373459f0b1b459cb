"""Prompts of several messages and of images: from plain rows to what an agent is given."""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from runmgr.exceptions import UserError

__all__ = ("ChatTemplate", "chat_messages", "image", "load_chat")

_ROLES = ("system", "user", "assistant")


def load_chat(source: Any, compile_text: Callable[[str], Callable[[dict[str, Any]], str]]) -> ChatTemplate:
    """A template of several messages.

    Args:
        source: the messages, or the name of a JSON file that holds them.
        compile_text: makes a template of a text.

    Raises:
        UserError: the file cannot be read, or what it holds are no messages.
    """
    if isinstance(source, (str, Path)):
        try:
            data: Any = json.loads(Path(source).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"--chat {source}: cannot be read as JSON: {error}") from error
    else:
        data = source
    try:
        check_chat(data)
    except UserError as error:
        raise UserError(f"--chat: {error.message}") from error
    return ChatTemplate(data, compile_text)


def check_chat(data: Any) -> None:
    """Whether this is a list of messages that ends with a user's.

    Raises:
        UserError: says what is wrong.
    """
    form = 'messages are needed: [{"role": "user", "content": "..."}]'
    if not isinstance(data, list) or not data:
        raise UserError(form)
    for number, message in enumerate(cast("list[Any]", data)):
        if not isinstance(message, dict) or "role" not in message or "content" not in message:
            raise UserError(f"message {number}: {form}")
        role, content = cast("Any", message["role"]), cast("Any", message["content"])
        if role not in _ROLES:
            raise UserError(f"message {number}: role {role!r}: one of {', '.join(_ROLES)} is needed")
        if isinstance(content, list):
            for part in cast("list[Any]", content):
                _part(part, number)
        elif not isinstance(content, str):
            raise UserError(f"message {number}: the content is a text, or a list of text and image parts")
    if data[-1]["role"] != "user":
        raise UserError("the last message must be the user's: it is what is asked")


def _part(part: Any, number: int) -> tuple[str, str]:
    """A content part's kind and text, in OpenAI's form or shorter."""
    if isinstance(part, dict):
        fields = cast("dict[str, Any]", part)
        if fields.get("type") == "text" and isinstance(fields.get("text"), str):
            return "text", fields["text"]
        found = fields.get("image_url", fields.get("image"))
        if isinstance(found, dict):
            found = cast("dict[str, Any]", found).get("url")
        if isinstance(found, str):
            return "image", found
    raise UserError(
        f'message {number}: a part is {{"type": "text", "text": ...}} or {{"type": "image", "image": PATH or URL}}'
    )


class ChatTemplate:
    """Messages with a template for each text."""

    def __init__(
        self, messages: list[dict[str, Any]], compile_text: Callable[[str], Callable[[dict[str, Any]], str]]
    ) -> None:
        self._messages: list[tuple[str, Any]] = []
        for number, message in enumerate(messages):
            content = message["content"]
            if isinstance(content, str):
                self._messages.append((message["role"], compile_text(content)))
            else:
                parts = [_part(part, number) for part in content]
                self._messages.append((message["role"], [(kind, compile_text(text)) for kind, text in parts]))

    def __call__(self, fields: dict[str, Any]) -> list[dict[str, Any]]:
        """The messages of a row.

        Raises:
            UserError: a field is missing.
        """
        return [
            {
                "role": role,
                "content": content(fields)
                if callable(content)
                else [
                    {"type": kind, kind: template(fields)}
                    for kind, template in cast("list[tuple[str, Callable[[dict[str, Any]], str]]]", content)
                ],
            }
            for role, content in self._messages
        ]


def image(where: str, folder: Path | None) -> Any:
    """An image as content: by its URL, or read from its file. Blocks on the disk.

    Args:
        where: a URL, or a path from here or from the input's folder.
        folder: that folder.

    Raises:
        UserError: no such file, or its ending is none of an image.
    """
    from runmgr.messages import BinaryContent, ImageUrl

    if where.startswith(("http://", "https://")):
        return ImageUrl(url=where)
    if where.startswith("data:"):
        return BinaryContent.from_data_uri(where)
    path = find_image(where, folder)
    return BinaryContent(data=path.read_bytes(), media_type=mimetypes.guess_type(path.name)[0] or "image/png")


def find_image(where: str, folder: Path | None) -> Path:
    """The image's file.

    Raises:
        UserError: no such file, or its ending is none of an image.
    """
    path = Path(where)
    if not path.exists() and folder is not None:
        path = folder / where
    if not path.is_file():
        raise UserError(f"no such image: {where}")
    if not (mimetypes.guess_type(path.name)[0] or "").startswith("image/"):
        raise UserError(f"{where}: its ending is none of an image")
    return path


def check_images(messages: Sequence[dict[str, Any]], folder: Path | None) -> None:
    """Whether every image that is a file is there.

    Raises:
        UserError: one is not.
    """
    for number, message in enumerate(messages):
        if isinstance(message["content"], list):
            for part in cast("list[Any]", message["content"]):
                kind, text = _part(part, number)
                if kind == "image" and not text.startswith(("http://", "https://", "data:")):
                    find_image(text, folder)


def chat_messages(messages: Sequence[dict[str, Any]], folder: Path | None) -> tuple[Any, list[Any]]:
    """The last message as a prompt, and those before it as a history. Reads images.

    Args:
        messages: as `check_chat` takes them.
        folder: where images may lie.

    Raises:
        UserError: an image is not there.
    """
    from runmgr.messages import ModelRequest, ModelResponse, SystemPromptPart, TextPart, UserPromptPart

    def content(message: dict[str, Any]) -> Any:
        given = message["content"]
        if isinstance(given, str):
            return given
        parts = [_part(part, 0) for part in given]
        return [text if kind == "text" else image(text, folder) for kind, text in parts]

    history: list[Any] = []
    for message in messages[:-1]:
        if message["role"] == "assistant":
            said = content(message)
            text = (
                said if isinstance(said, str) else "\n".join(part for part in said if isinstance(part, str))
            )
            history.append(ModelResponse(parts=[TextPart(text)]))
            continue
        part = (
            SystemPromptPart(content(message))
            if message["role"] == "system"
            else UserPromptPart(content(message))
        )
        if history and isinstance(history[-1], ModelRequest):
            history[-1].parts.append(part)  # pyright: ignore[reportUnknownMemberType]
        else:
            history.append(ModelRequest(parts=[part]))
    return content(messages[-1]), history
