"""One connection's parsing, with answers cut anywhere."""

import gzip
import socket
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runmgr.models.http.errors import HttpError
from runmgr.models.http.sse import EventDecoder
from runmgr.models.http.wire import Connection

TEXT = b"the body of the answer"
PACKED = gzip.compress(TEXT, mtime=0)
ANSWERS = {
    "length": b"HTTP/1.1 200 OK\r\ncontent-length: 22\r\n\r\n" + TEXT,
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nthe\r\n13;x=y\r\n body of the answer\r\n0\r\nt: u\r\n\r\n",
    "gzip": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(PACKED) + PACKED,
    "continue": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 22\r\n\r\n" + TEXT,
}


@contextmanager
def connection():
    near, far = socket.socketpair()
    far.close()
    one = Connection(near, memoryview(bytearray(10)))
    try:
        yield one
    finally:
        one.close()


def feed(one, pieces):
    body = b""
    for piece in pieces:
        one._feed(memoryview(piece))
        if one.chunks:
            body += one.take(1000)
    return body


@pytest.mark.parametrize("name", ANSWERS)
def test_cut_in_two_at_every_byte(name):
    whole = ANSWERS[name]
    for cut in range(1, len(whole)):
        with connection() as one:
            one.begin()
            assert feed(one, [whole[:cut], whole[cut:]]) == TEXT
            assert one.reusable
            assert one.status == 200


@pytest.mark.parametrize("name", ANSWERS)
def test_ended_at_every_byte(name):
    """An end before the end is an error, whatever had arrived."""
    whole = ANSWERS[name]
    for cut in range(len(whole)):
        with connection() as one:
            one.begin()
            feed(one, [whole[:cut]] if cut else [])
            assert not one.done
            with pytest.raises(HttpError):
                one._ended(None)
            assert not one.reusable


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_several_answers_on_one_connection_in_any_pieces(data):
    with connection() as one:
        for _ in range(data.draw(st.integers(1, 4))):
            whole = ANSWERS[data.draw(st.sampled_from(sorted(ANSWERS)))]
            cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
            pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True) if a < b]
            one.begin()
            assert feed(one, pieces) == TEXT
            assert one.reusable


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.binary(min_size=1, max_size=60), max_size=6), st.sampled_from(sorted(ANSWERS)), st.booleans()
)
def test_any_bytes_give_an_answer_or_an_error(pieces, name, prefixed):
    with connection() as one:
        one.begin()
        try:
            if prefixed:
                feed(one, [ANSWERS[name][:30]])
            for piece in pieces:
                feed(one, [piece])
                if one.done:
                    break
            else:
                one._ended(None)
        except HttpError:
            assert not one.reusable
        else:
            assert one.done


# ---------------------------------------------------------------- server-sent events

STREAM = (
    b"\xef\xbb\xbf: a comment\n\ndata: one\n\n"
    b"event: kind\r\ndata: two\r\ndata:lines\r\nid: 7\r\nretry: 10\r\n\r\n"
    b"data\n\nevent: nothing\n\nignored: x\ndata: after\n\n:\n\n"
    b"data:  two spaces\rdata: cr\r\rdata: \xc3\xbc\n\n"
)
EVENTS = [
    (b"", b"one"),
    (b"kind", b"two\nlines"),
    (b"", b""),
    (b"", b"after"),
    (b"", b" two spaces\ncr"),
    (b"", b"\xc3\xbc"),
]


def decode(pieces):
    decoder = EventDecoder()
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return events + decoder.end()


def test_events_cut_at_every_byte():
    assert decode([STREAM]) == EVENTS
    for cut in range(len(STREAM)):
        assert decode([STREAM[:cut], STREAM[cut:]]) == EVENTS
    assert decode([bytes([byte]) for byte in STREAM]) == EVENTS


@given(st.lists(st.integers(0, len(STREAM))))
def test_events_in_any_pieces(cuts):
    cuts = sorted(cuts)
    assert decode([STREAM[a:b] for a, b in zip([0, *cuts], [*cuts, len(STREAM)], strict=True)]) == EVENTS


def test_the_last_event_needs_no_blank_line():
    assert decode([b"data: a\n\ndata: b"]) == [(b"", b"a"), (b"", b"b")]
    assert decode([b"data: a\r\n\r\ndata: b\r"]) == [(b"", b"a"), (b"", b"b")]
    assert decode([b"\xef"]) == []
    assert decode([b"data: a\n\n", b"\xef\xbb\xbfdata: b\n\n"]) == [
        (b"", b"a")
    ]  # a mark elsewhere is part of a name
    assert decode([]) == []


@given(st.lists(st.binary(max_size=50)))
def test_any_bytes_are_events_or_none(pieces):
    for _, data in decode(pieces):
        assert isinstance(data, bytes)


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 50, b"data: x\n" * 50])
def test_an_event_has_a_limit(piece):
    decoder = EventDecoder(limit=40)
    with pytest.raises(HttpError, match="larger than 40 bytes"):
        for _ in range(3):
            decoder.feed(piece)
