"""Media types and formats that models know, and how a file's name tells its type."""

from __future__ import annotations

from functools import cache
from mimetypes import MimeTypes
from typing import Literal, TypeAlias

__all__ = (
    "AudioFormat",
    "AudioMediaType",
    "DocumentFormat",
    "DocumentMediaType",
    "ImageFormat",
    "ImageMediaType",
    "VideoFormat",
    "VideoMediaType",
    "guess_media_type",
)

AudioMediaType: TypeAlias = Literal[
    "audio/wav", "audio/mpeg", "audio/ogg", "audio/flac", "audio/aiff", "audio/aac"
]
ImageMediaType: TypeAlias = Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
DocumentMediaType: TypeAlias = Literal[
    "application/pdf",
    "text/plain",
    "text/csv",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "text/html",
    "text/markdown",
    "application/msword",
    "application/vnd.ms-excel",
]
VideoMediaType: TypeAlias = Literal[
    "video/x-matroska",
    "video/quicktime",
    "video/mp4",
    "video/webm",
    "video/x-flv",
    "video/mpeg",
    "video/x-ms-wmv",
    "video/3gpp",
]

AudioFormat: TypeAlias = Literal["wav", "mp3", "oga", "flac", "aiff", "aac"]
ImageFormat: TypeAlias = Literal["jpeg", "png", "gif", "webp"]
DocumentFormat: TypeAlias = Literal["csv", "doc", "docx", "html", "md", "pdf", "txt", "xls", "xlsx"]
VideoFormat: TypeAlias = Literal["mkv", "mov", "mp4", "webm", "flv", "mpeg", "mpg", "wmv", "three_gp"]

# Each table in the order in which people meet the formats; the first name of a type is the one its files are given.
AUDIO_FORMATS: dict[str, AudioFormat] = {
    "audio/wav": "wav",
    "audio/mpeg": "mp3",
    "audio/ogg": "oga",
    "audio/flac": "flac",
    "audio/aiff": "aiff",
    "audio/aac": "aac",
}
IMAGE_FORMATS: dict[str, ImageFormat] = {
    "image/jpeg": "jpeg",
    "image/png": "png",
    "image/gif": "gif",
    "image/webp": "webp",
}
DOCUMENT_FORMATS: dict[str, DocumentFormat] = {
    "application/pdf": "pdf",
    "text/plain": "txt",
    "text/csv": "csv",
    "text/html": "html",
    "text/markdown": "md",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
}
VIDEO_FORMATS: dict[str, VideoFormat] = {
    "video/x-matroska": "mkv",
    "video/quicktime": "mov",
    "video/mp4": "mp4",
    "video/webm": "webm",
    "video/x-flv": "flv",
    "video/mpeg": "mpeg",
    "video/x-ms-wmv": "wmv",
    "video/3gpp": "three_gp",
}

# What the standard table lacks, or says differently from what models expect.
_EXTRA_ENDINGS = {
    ".mp3": "audio/mpeg",
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".oga": "audio/ogg",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".aiff": "audio/aiff",
    ".aac": "audio/aac",
    ".m4a": "audio/mp4",
    ".mkv": "video/x-matroska",
    ".mov": "video/quicktime",
    ".mp4": "video/mp4",
    ".webm": "video/webm",
    ".flv": "video/x-flv",
    ".mpeg": "video/mpeg",
    ".mpg": "video/mpeg",
    ".wmv": "video/x-ms-wmv",
    ".three_gp": "video/3gpp",
    ".webp": "image/webp",
    ".md": "text/markdown",
    ".markdown": "text/markdown",
    ".csv": "text/csv",
    ".doc": "application/msword",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".xls": "application/vnd.ms-excel",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".toml": "application/toml",
    ".xml": "application/xml",
    ".rtf": "application/rtf",
    ".asciidoc": "text/x-asciidoc",
}


@cache
def _types() -> MimeTypes:
    # The machine's own tables are not read: the same file has the same type everywhere.
    types = MimeTypes()
    for ending, media_type in _EXTRA_ENDINGS.items():
        types.add_type(media_type, ending)
    return types


def guess_media_type(name: str) -> str | None:
    """The media type that the ending of a path or URL stands for, or None."""
    return _types().guess_type(name)[0]
