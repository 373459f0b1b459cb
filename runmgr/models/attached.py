"""Files in messages: those that are named by URL and have to be sent as bytes, and those that are text. Pure."""

from __future__ import annotations

from runmgr.messages import BinaryContent, FileUrl

__all__ = ("Files", "is_text")


class Files:
    """Files that are named by URL and have to be sent as bytes: those that were fetched, and those that are ``missing``.

    Mapping is pure and fetching is not. So mapping notes what it lacks, the model fetches it, and mapping is done again.
    """

    __slots__ = ("fetched", "missing")

    def __init__(self) -> None:
        self.fetched: dict[tuple[str, str], BinaryContent] = {}
        self.missing: dict[tuple[str, str], FileUrl] = {}

    def get(self, item: FileUrl) -> BinaryContent | None:
        """The file, or None after noting it."""
        found = self.fetched.get((item.kind, item.url))
        if found is None:
            self.missing[item.kind, item.url] = item
        return found

    def put(self, item: FileUrl, content: BinaryContent) -> None:
        """A missing file that is there now."""
        self.fetched[item.kind, item.url] = content
        del self.missing[item.kind, item.url]


_TEXT_TYPES = frozenset({
    "application/json",
    "application/ld+json",
    "application/soap+xml",
    "application/xml",
    "application/yaml",
    "application/x-yaml",
    "application/toml",
})  # fmt: skip


def is_text(media_type: str) -> bool:
    """Whether a file of this type can be sent as text."""
    return (
        media_type.startswith("text/") or media_type in _TEXT_TYPES or media_type.endswith(("+json", "+xml"))
    )
