"""Server-sent events in any pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvtwist.client._sse import Event, EventTooLarge, Parser

STREAMS: list[tuple[str, bytes, list[tuple[str, bytes, str | None]]]] = [
    ("an event", b"event: put\nid: 7\ndata: {}\n\n", [("put", b"{}", "7")]),
    ("no space after the colon", b"event:put\nid:7\ndata:{}\n\n", [("put", b"{}", "7")]),
    ("one space is dropped", b"data:  a \n\n", [("message", b" a ", None)]),
    ("several lines of data", b"data: a\ndata\ndata: b\n\n", [("message", b"a\n\nb", None)]),
    ("no data", b"event: put\n\n", []),
    ("empty data", b"event: put\ndata:\n\n", []),
    ("an id alone", b"id: 7\n\n", [("message", b"", "7")]),
    ("the id is of one event", b"id: 7\ndata: a\n\ndata: b\n\n", [("message", b"a", "7"), ("message", b"b", None)]),
    ("so is the kind", b"event: x\ndata: a\n\ndata: b\n\n", [("x", b"a", None), ("message", b"b", None)]),
    ("an empty id", b"id\ndata: a\n\n", [("message", b"a", "")]),
    ("an id with a NUL", b"id: 1\0\ndata: a\n\n", [("message", b"a", None)]),
    ("comments", b": hello\n:\n\ndata: a\n: b\n\n", [("message", b"a", None)]),
    ("unknown fields", b"retry: 10\ndatas: x\n data: y\ndata: a\n\n", [("message", b"a", None)]),
    ("what is unfinished", b"data: a\n\ndata: b\n", [("message", b"a", None)]),
    ("CRLF", b"data: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n", [("message", b"a\nb", None), ("message", b"c", None)]),
    ("CR", b"data: a\rdata: b\r\rdata: c\r\r", [("message", b"a\nb", None), ("message", b"c", None)]),
    ("all line ends", b"data: a\n\r\ndata: b\r\n\rdata: c\n\n", [("message", x, None) for x in (b"a", b"b", b"c")]),
    ("a byte order mark", b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n", [("message", b"a", None)]),
    ("bytes that are no text", b"event: \xff\nid: \xff\ndata: \xff\n\n", [("\ufffd", b"\xff", "\ufffd")]),
]


@pytest.mark.parametrize(("stream", "events"), [case[1:] for case in STREAMS], ids=[case[0] for case in STREAMS])
def test_what_a_stream_tells_however_it_is_cut(stream: bytes, events: list[tuple[str, bytes, str | None]]) -> None:
    expected = [Event(*event) for event in events]
    assert Parser(1000).feed(stream) == expected
    for at in range(len(stream) + 1):
        parser = Parser(1000)
        assert parser.feed(stream[:at]) + parser.feed(stream[at:]) == expected, at
    parser = Parser(1000)
    assert [event for at in range(len(stream)) for event in parser.feed(stream[at : at + 1])] == expected


def text_of(data: bytes) -> bytes:
    """Something of which a stream may consist."""
    return data.translate(bytes(b"\r\n:data id\n"[byte % 11] for byte in range(256)))


@given(st.lists(st.binary(max_size=9).map(text_of)))
def test_pieces_do_not_matter(pieces: list[bytes]) -> None:
    parser = Parser(1000)
    assert [event for piece in pieces for event in parser.feed(piece)] == Parser(1000).feed(b"".join(pieces))


def test_an_event_is_bounded() -> None:
    fits = b"data: " + b"x" * 94
    assert Parser(100).feed(fits) == []
    assert [event.data for event in Parser(100).feed(fits + b"\n\n" + fits + b"\n\n")] == [b"x" * 94] * 2
    for stream in (
        b"x" * 101,
        b": " + b"x" * 99,
        b"data: " + b"x" * 101 + b"\n",
        (b"data: " + b"x" * 20 + b"\n") * 6,
        b"data: " + b"x" * 60 + b"\ndata: " + b"x" * 40,
    ):
        with pytest.raises(EventTooLarge):
            Parser(100).feed(stream)
        parser = Parser(100)
        with pytest.raises(EventTooLarge):
            for at in range(len(stream)):
                parser.feed(stream[at : at + 1])


def test_a_long_line_of_many_pieces_is_searched_once() -> None:
    parser = Parser(2**30)
    assert parser.feed(b"data: ") == []
    piece = b"x" * 2**10
    for _ in range(2**12):
        assert parser.feed(piece) == []
    [event] = parser.feed(b"\n\n")
    assert len(event.data) == 2**22
