"""What users and tools send besides text: files by URL, files as bytes, cache points, and a tool's extended return.

The derived attributes of files (``media_type`` of a URL, ``identifier``) are worked out when they are read, unless
they were given. They do not take part in comparison: two URLs that are the same are the same content.
"""

from __future__ import annotations

import base64
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias
from urllib.parse import urlsplit

from runmgr.messages._base64 import Base64
from runmgr.messages.base import Derived, MessageValue
from runmgr.messages.ids import file_identifier
from runmgr.messages.media import (
    AUDIO_FORMATS,
    DOCUMENT_FORMATS,
    IMAGE_FORMATS,
    VIDEO_FORMATS,
    AudioFormat,
    AudioMediaType,
    DocumentFormat,
    DocumentMediaType,
    ImageFormat,
    ImageMediaType,
    VideoFormat,
    guess_media_type,
)

if TYPE_CHECKING:
    from runmgr.messages.base import DerivedText

__all__ = (
    "AudioUrl",
    "BinaryContent",
    "BinaryImage",
    "CachePoint",
    "DocumentUrl",
    "FileUrl",
    "ImageUrl",
    "MultiModalContent",
    "ToolReturn",
    "UserContent",
    "VideoUrl",
)


class _Url(MessageValue, tag_field="kind"):
    url: str


class FileUrl(_Url, kw_only=True):
    """A file that the provider, or failing that we, download. Use one of its subclasses.

    Args:
        url: where the file is.
        media_type: its media type; told from the URL's ending where it is not given.
        identifier: what the model is to call it; six hex digits of the URL's hash where it is not given.
        force_download: have us download it and send the bytes, even where the provider could fetch the URL.
        vendor_metadata: for the provider; what it may hold depends on the model.
    """

    _what: ClassVar[str] = "file"
    _formats: ClassVar[dict[str, Any]] = {}

    if TYPE_CHECKING:
        kind: ClassVar[str]
        force_download: bool = False
        vendor_metadata: dict[str, Any] | None = None
        media_type: DerivedText = DerivedText()
        identifier: DerivedText = DerivedText()
    else:
        force_download: bool = False
        vendor_metadata: dict[str, Any] | None = None
        media_type: str | None = None
        identifier: str | None = None

    def _infer_media_type(self) -> str:
        media_type = guess_media_type(self.url)
        if media_type is None:
            raise ValueError(
                f"Could not infer media type from {self._what} URL: {self.url}. "
                "Explicitly provide a `media_type` instead."
            )
        return media_type

    @property
    def format(self) -> str:
        """The short name of the media type (``'png'``). Raises ``ValueError`` for a type that has none."""
        media_type = self.media_type
        try:
            return self._formats[media_type]
        except KeyError:
            raise ValueError(f"Unknown {self._what} media type: {media_type}") from None

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return (
            self.url == other.url
            and self.force_download == other.force_download
            and self.vendor_metadata == other.vendor_metadata
        )

    __hash__ = None  # pyright: ignore[reportAssignmentType, reportUnannotatedClassAttribute]

    def __repr__(self) -> str:
        shown = [f"url={self.url!r}"]
        if self.force_download:
            shown.append(f"force_download={self.force_download!r}")
        if self.vendor_metadata is not None:
            shown.append(f"vendor_metadata={self.vendor_metadata!r}")
        shown.extend(_given(self, _URL_MEDIA_TYPE, _URL_IDENTIFIER))
        return f"{type(self).__qualname__}({', '.join(shown)})"


def _given(instance: Any, *attributes: tuple[str, Derived]) -> list[str]:
    return [f"{name}={value!r}" for name, item in attributes if (value := item.given(instance)) is not None]


_URL_MEDIA_TYPE = ("media_type", Derived(FileUrl, "media_type", lambda url: url._infer_media_type()))
_URL_IDENTIFIER = ("identifier", Derived(FileUrl, "identifier", lambda url: file_identifier(url.url)))


class ImageUrl(FileUrl, kw_only=True, tag="image-url"):
    """An image by URL. ``format`` is one of ``jpeg``, ``png``, ``gif``, ``webp``."""

    kind: ClassVar[Literal["image-url"]] = "image-url"  # pyright: ignore[reportIncompatibleVariableOverride]
    _what: ClassVar[str] = "image"
    _formats: ClassVar[dict[str, Any]] = IMAGE_FORMATS

    if TYPE_CHECKING:

        @property
        def format(self) -> ImageFormat: ...


class AudioUrl(FileUrl, kw_only=True, tag="audio-url"):
    """Audio by URL. ``format`` is one of ``wav``, ``mp3``, ``oga``, ``flac``, ``aiff``, ``aac``."""

    kind: ClassVar[Literal["audio-url"]] = "audio-url"  # pyright: ignore[reportIncompatibleVariableOverride]
    _what: ClassVar[str] = "audio"
    _formats: ClassVar[dict[str, Any]] = AUDIO_FORMATS

    if TYPE_CHECKING:

        @property
        def format(self) -> AudioFormat: ...


class DocumentUrl(FileUrl, kw_only=True, tag="document-url"):
    """A document by URL. ``format`` is one of ``pdf``, ``txt``, ``csv``, ``html``, ``md``, ``doc(x)``, ``xls(x)``."""

    kind: ClassVar[Literal["document-url"]] = "document-url"  # pyright: ignore[reportIncompatibleVariableOverride]
    _what: ClassVar[str] = "document"
    _formats: ClassVar[dict[str, Any]] = DOCUMENT_FORMATS

    if TYPE_CHECKING:

        @property
        def format(self) -> DocumentFormat: ...


class VideoUrl(FileUrl, kw_only=True, tag="video-url"):
    """A video by URL. ``format`` is one of ``mkv``, ``mov``, ``mp4``, ``webm``, ``flv``, ``mpeg``, ``wmv``, ``three_gp``."""

    kind: ClassVar[Literal["video-url"]] = "video-url"  # pyright: ignore[reportIncompatibleVariableOverride]
    _what: ClassVar[str] = "video"
    _formats: ClassVar[dict[str, Any]] = VIDEO_FORMATS

    @property
    def is_youtube(self) -> bool:
        """Whether it is a page of YouTube's, which some providers read themselves."""
        return urlsplit(self.url).hostname in _YOUTUBE_HOSTS

    def _infer_media_type(self) -> str:
        return "video/mp4" if self.is_youtube else super()._infer_media_type()

    if TYPE_CHECKING:

        @property
        def format(self) -> VideoFormat: ...


_YOUTUBE_HOSTS = frozenset({"youtu.be", "youtube.com", "www.youtube.com"})


class _Bytes(MessageValue, tag_field="kind"):
    data: Base64


class BinaryContent(_Bytes, kw_only=True, tag="binary"):
    """A file as bytes.

    Args:
        data: the bytes.
        media_type: their media type (``'image/png'``).
        identifier: what the model is to call it; six hex digits of the bytes' hash where it is not given.
        vendor_metadata: for the provider; what it may hold depends on the model.
    """

    kind: ClassVar[Literal["binary"]] = "binary"

    media_type: AudioMediaType | ImageMediaType | DocumentMediaType | str
    vendor_metadata: dict[str, Any] | None = None

    if TYPE_CHECKING:
        identifier: DerivedText = DerivedText()
    else:
        identifier: str | None = None

    @staticmethod
    def narrow_type(bc: BinaryContent) -> BinaryContent | BinaryImage:
        """``bc`` as a ``BinaryImage`` if it is an image, else as it is."""
        if not bc.is_image or isinstance(bc, BinaryImage):
            return bc
        return BinaryImage(
            bc.data,
            media_type=bc.media_type,
            identifier=_BYTES_IDENTIFIER[1].given(bc),
            vendor_metadata=bc.vendor_metadata,
        )

    @classmethod
    def from_data_uri(cls, data_uri: str) -> BinaryContent:
        """From a ``data:`` URI with base64 data. Raises ``ValueError`` for anything else."""
        if not data_uri.startswith("data:"):
            raise ValueError('Data URI must start with "data:"')
        head, separator, data = data_uri[len("data:") :].partition(";base64,")
        if not separator:
            raise ValueError('Data URI must hold base64 data: "data:<media type>;base64,<data>"')
        return cls.narrow_type(cls(base64.b64decode(data), media_type=head))

    @classmethod
    def from_path(cls, path: PathLike[str]) -> BinaryContent:
        """Reads a file, and tells its type from its ending. Blocks; raises ``OSError`` where it cannot be read."""
        path = Path(path)
        if not path.exists():
            raise FileNotFoundError(f"File not found: {path}")
        media_type = guess_media_type(path.name) or "application/octet-stream"
        return cls.narrow_type(cls(path.read_bytes(), media_type=media_type))

    @property
    def data_uri(self) -> str:
        """The bytes as a ``data:`` URI."""
        return f"data:{self.media_type};base64,{self.base64}"

    @property
    def base64(self) -> str:
        """The bytes in base64 with the standard alphabet, as providers want them."""
        return base64.b64encode(self.data).decode("ascii")

    @property
    def is_audio(self) -> bool:
        """Whether the media type is of the kind ``audio/``."""
        return self.media_type.startswith("audio/")

    @property
    def is_image(self) -> bool:
        """Whether the media type is of the kind ``image/``."""
        return self.media_type.startswith("image/")

    @property
    def is_video(self) -> bool:
        """Whether the media type is of the kind ``video/``."""
        return self.media_type.startswith("video/")

    @property
    def is_document(self) -> bool:
        """Whether the media type is one of the documents that models know."""
        return self.media_type in DOCUMENT_FORMATS

    @property
    def format(self) -> str:
        """The short name of the media type (``'png'``). Raises ``ValueError`` for a type that has none."""
        media_type = self.media_type
        for formats in (IMAGE_FORMATS, AUDIO_FORMATS, DOCUMENT_FORMATS, VIDEO_FORMATS):
            if (name := formats.get(media_type)) is not None:
                return name
        raise ValueError(f"Unknown media type: {media_type}")

    def __eq__(self, other: object) -> bool:
        # An image is the same content whether or not somebody has narrowed its type.
        if not isinstance(other, BinaryContent):
            return NotImplemented
        return (
            self.data == other.data
            and self.media_type == other.media_type
            and self.vendor_metadata == other.vendor_metadata
        )

    __hash__ = None  # pyright: ignore[reportAssignmentType, reportUnannotatedClassAttribute]

    def __repr__(self) -> str:
        shown = [f"data={self.data!r}", f"media_type={self.media_type!r}"]
        if self.vendor_metadata is not None:
            shown.append(f"vendor_metadata={self.vendor_metadata!r}")
        shown.extend(_given(self, _BYTES_IDENTIFIER))
        return f"{type(self).__qualname__}({', '.join(shown)})"


_BYTES_IDENTIFIER = (
    "identifier",
    Derived(BinaryContent, "identifier", lambda file: file_identifier(file.data)),
)


class BinaryImage(BinaryContent, kw_only=True, tag="binary"):
    """An image as bytes; what ``ModelResponse.images`` holds. Raises ``ValueError`` for a type that is no image."""

    def __post_init__(self) -> None:
        if not self.is_image:
            raise ValueError(
                f'BinaryImage needs a media type that starts with "image/", not {self.media_type!r}'
            )


class CachePoint(MessageValue, kw_only=True, tag_field="kind", tag="cache-point"):
    """In a user prompt: what comes before may be cached by the provider. Providers without caching leave it out."""

    kind: ClassVar[Literal["cache-point"]] = "cache-point"

    ttl: Literal["5m", "1h"] = "5m"
    """How long the provider keeps it."""


class _Returned(MessageValue, tag_field="kind"):
    return_value: Any


class ToolReturn(_Returned, kw_only=True, tag="tool-return"):
    """What a tool returns to send content along with its result, or to keep data for the program.

    Args:
        return_value: the result, as the model sees it in the tool's return.
        content: sent to the model as a user prompt besides.
        metadata: for the program only; the model does not see it.
    """

    kind: ClassVar[Literal["tool-return"]] = "tool-return"

    content: str | list[UserContent] | None = None
    metadata: Any = None


MultiModalContent: TypeAlias = ImageUrl | AudioUrl | DocumentUrl | VideoUrl | BinaryContent
UserContent: TypeAlias = str | ImageUrl | AudioUrl | DocumentUrl | VideoUrl | BinaryContent | CachePoint
