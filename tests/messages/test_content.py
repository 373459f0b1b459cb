"""Files by URL and as bytes: what is told from their names, and that it agrees with Pydantic AI."""

import dataclasses

import pydantic_ai.messages as theirs
import pytest

import runmgr.messages as ours
from runmgr.messages import AudioUrl, BinaryContent, BinaryImage, DocumentUrl, ImageUrl, VideoUrl

URLS = [
    *(("ImageUrl", f"https://h/{name}") for name in ("a.png", "a.JPG", "a.jpeg", "a.gif", "a.webp", "a")),
    *(
        ("AudioUrl", f"https://h/{name}")
        for name in ("a.mp3", "a.wav", "a.flac", "a.oga", "a.ogg", "a.opus", "a.aiff")
    ),
    *(("AudioUrl", f"https://h/{name}") for name in ("a.aac", "a")),
    *(
        ("VideoUrl", f"https://h/{name}")
        for name in ("a.mkv", "a.mov", "a.mp4", "a.webm", "a.flv", "a.mpeg", "a.mpg")
    ),
    *(("VideoUrl", f"https://h/{name}") for name in ("a.wmv", "a.three_gp", "a")),
    *(("VideoUrl", url) for url in ("https://youtube.com/watch?v=1", "https://www.youtube.com/x")),
    *(("VideoUrl", url) for url in ("https://youtu.be/x.mov", "https://m.youtube.com/x.mp4")),
    *(
        ("DocumentUrl", f"https://h/{name}")
        for name in ("a.pdf", "a.txt", "a.csv", "a.doc", "a.docx", "a.html")
    ),
    *(
        ("DocumentUrl", f"https://h/{name}")
        for name in ("a.md", "a.xls", "a.xlsx", "a.rtf", "a.json", "a.yaml", "a")
    ),
]


def ask(value, attribute):
    try:
        return getattr(value, attribute)
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize(("kind", "url"), URLS)
def test_urls(kind, url):
    here, there = getattr(ours, kind)(url), getattr(theirs, kind)(url)
    for attribute in ("media_type", "format", "identifier", "kind", "force_download", "vendor_metadata"):
        assert ask(here, attribute) == ask(there, attribute)
    if kind == "VideoUrl":
        assert here.is_youtube == there.is_youtube


def test_a_format_that_has_no_name_is_an_error_that_says_so():
    with pytest.raises(ValueError, match="Unknown image media type: image/svg"):
        _ = ImageUrl("https://h/a.svg").format


def test_what_is_given_wins_and_what_is_derived_follows():
    url = ImageUrl("https://h/a.png", media_type="image/webp", identifier="it")
    assert (url.media_type, url.identifier, url.format) == ("image/webp", "it", "webp")
    url = ImageUrl("https://h/a.png")
    before = url.identifier
    url.url = "https://h/b.gif"
    assert url.media_type == "image/gif"
    assert url.identifier != before
    assert ours.replace(url, url="https://h/c.png").media_type == "image/png"
    url.media_type = "image/png"
    assert url.media_type == "image/png"
    assert repr(url) == "ImageUrl(url='https://h/b.gif', media_type='image/png')"
    assert eval(repr(url)) == url
    full = DocumentUrl("https://h/a.pdf", force_download=True, vendor_metadata={"a": 1}, identifier="i")
    assert repr(eval(repr(full))) == repr(full)


def test_equality_is_by_content():
    assert ImageUrl("https://h/a.png") == ImageUrl("https://h/a.png", media_type="image/png", identifier="i")
    assert ImageUrl("https://h/a.png") != ImageUrl("https://h/b.png")
    assert ImageUrl("https://h/a.png") != AudioUrl("https://h/a.png")
    assert ImageUrl("https://h/a.png") != ImageUrl("https://h/a.png", force_download=True)
    assert BinaryContent(b"a", media_type="image/png") == BinaryImage(
        b"a", media_type="image/png", identifier="i"
    )
    assert BinaryContent(b"a", media_type="image/png") != BinaryContent(b"b", media_type="image/png")
    assert BinaryContent(b"a", media_type="image/png") != BinaryContent(b"a", media_type="image/gif")
    assert BinaryContent(b"a", media_type="image/png") != b"a"
    for value in (ImageUrl(""), BinaryContent(b"", media_type="")):
        with pytest.raises(TypeError, match="unhashable"):
            hash(value)


@pytest.mark.parametrize(
    "media_type",
    [
        *(
            "image/png",
            "image/svg+xml",
            "audio/wav",
            "audio/x",
            "video/mp4",
            "video/x",
            "application/pdf",
            "text/plain",
        ),
        *("text/x-python", "application/json", "text/markdown", "application/octet-stream"),
    ],
)
def test_binary_content(media_type):
    here = BinaryContent(b"\xff\xfe", media_type=media_type)
    there = theirs.BinaryContent(b"\xff\xfe", media_type=media_type)
    for attribute in (
        "is_audio",
        "is_image",
        "is_video",
        "is_document",
        "identifier",
        "data_uri",
        "base64",
        "format",
    ):
        assert ask(here, attribute) == ask(there, attribute)
    narrowed, other = BinaryContent.narrow_type(here), theirs.BinaryContent.narrow_type(there)
    assert type(narrowed).__name__ == type(other).__name__
    assert BinaryContent.narrow_type(narrowed) is narrowed


def test_narrowing_keeps_what_was_given():
    image = BinaryContent.narrow_type(
        BinaryContent(b"a", media_type="image/png", identifier="i", vendor_metadata={"a": 1})
    )
    assert (
        repr(image)
        == "BinaryImage(data=b'a', media_type='image/png', vendor_metadata={'a': 1}, identifier='i')"
    )
    with pytest.raises(ValueError, match="not 'text/plain'"):
        BinaryImage(b"a", media_type="text/plain")
    file = ours.FilePart(BinaryContent(b"a", media_type="image/png"))
    assert isinstance(file.content, BinaryImage)
    assert ours.ModelResponse([file]).images == [BinaryImage(b"a", media_type="image/png")]


def test_data_uris():
    assert BinaryContent.from_data_uri("data:image/png;base64,YWJj") == BinaryImage(
        b"abc", media_type="image/png"
    )
    assert BinaryContent.from_data_uri("data:text/plain;base64,YWJj").data == b"abc"
    for uri in ("http://x", "data:text/plain,abc"):
        with pytest.raises(ValueError, match="Data URI must"):
            BinaryContent.from_data_uri(uri)
    content = BinaryContent(b"\xff\xfe", media_type="a/b")
    assert BinaryContent.from_data_uri(content.data_uri) == content


@pytest.mark.parametrize("name", ["a.png", "a", "b.unknown", "c.md", "d.yaml", "e.pdf", "f.docx"])
def test_paths(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"abc")
    here, there = BinaryContent.from_path(path), theirs.BinaryContent.from_path(path)
    assert (here.media_type, here.data, type(here).__name__) == (
        there.media_type,
        there.data,
        type(there).__name__,
    )


def test_missing_paths(tmp_path):
    with pytest.raises(FileNotFoundError, match="File not found"):
        BinaryContent.from_path(tmp_path / "none")
    with pytest.raises(OSError, match="directory"):
        BinaryContent.from_path(tmp_path)


def test_derived_attributes_survive_copies():
    import copy
    import pickle

    for value in (
        ImageUrl("https://h/a.png", media_type="image/webp"),
        VideoUrl("https://h/a.mp4", identifier="i"),
        BinaryContent(b"a", media_type="a/b", identifier="i"),
        BinaryImage(b"a", media_type="image/png"),
    ):
        for again in (
            copy.copy(value),
            copy.deepcopy(value),
            pickle.loads(pickle.dumps(value)),
            ours.replace(value),
        ):
            assert repr(again) == repr(value)
        assert dataclasses.replace(value) == value
