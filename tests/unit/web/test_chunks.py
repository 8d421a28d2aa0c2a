"""Chunked bodies, split at every position; malformed ones are refused as early as possible."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kvtwist.web.chunks import BadChunk, ChunkedBody

EXTENSIONS, TRAILERS = 16_384, 8_192
"""How many bytes of them a body may have, as docs/operations.md says."""

GOOD = (
    (b"0\r\n\r\n", b""),
    (b"1\r\na\r\n0\r\n\r\n", b"a"),
    (b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", b"abc"),
    (b"000A\r\n0123456789\r\n00\r\n\r\n", b"0123456789"),
    (b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n"),
    (b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n"),
    (b"1\r\na\r\n0\r\nX-A: b\r\nX-B:\r\n\r\n", b"a"),
    (b"1\r\n\r\r\n0\r\n\r\n", b"\r"),
    (b"1;a\r\na\r\n0;b=c\r\n\r\n", b"a"),
    (b"1 ;\ta\t=\tb ; c\r\na\r\n0\t;d\r\n\r\n", b"a"),
    (b'1;a="b;c"\r\na\r\n1;a="";b\r\nb\r\n0\r\n\r\n', b"ab"),
    (b'1;a="\\"\\\\\t \xe9\\\xff"\r\na\r\n0\r\n\r\n', b"a"),
    (b"1;a=!#$%&'*+-.^_`|~09AZaz\r\na\r\n0\r\n\r\n", b"a"),
)

BAD = (
    *(
        b"\r\n",
        b"x\r\n",
        b"-1\r\n",
        b"+1\r\n",
        b"0x1\r\n",
        b"1_0\r\n",
        b" 1\r\n",
        b"1 \r\n",
        b"1;\r\n",
        b"1;;a\r\n",
        b"1;a \r\n",
        b"1;a;\r\n",
        b"1;a=\r\n",
        b"1;=a\r\n",
        b"1;a b\r\n",
        b"1;a=b c\r\n",
        b"1;a=b=c\r\n",
        b"1,a\r\n",
        b"1a;b(\r\n",
        b";a\r\n",
        b" ;a\r\n",
        b"0;a b\r\n\r\n",
    ),
    *(
        b'1;a="\r\n',
        b'1;a="b\r\n',
        b'1;a=b"\r\n',
        b'1;a="b"c\r\n',
        b'1;a="b\\"\r\n',
        b'1;"a"\r\n',
        b'1;a="\x00"\r\n',
        b'1;a="\\\x00"\r\n',
        b'1;a="\x7f"\r\n',
        b'1;a="\r"\r\n',
        b'1;a="\n"\r\n',
        b"1;a\n\r\n",
        b"1;a\r\r\n",
        b"1;\xe9\r\n",
    ),
    *(b"1\r\nab", b"1\r\na\n", b"1\r\na\r\r", b"1\r\na0\r\n", b"1\na\r\n", b"\n", b"1\r\r\n"),
    *(b"0\r\nX\r\n", b"0\r\n : a\r\n", b"0\r\nX : a\r\n", b"0\r\n a\r\n", b"0\r\nX: a\nb\r\n", b"0\r\nX: \x00\r\n"),
    *(b"1" * 16 + b"\r\n", b"0" * 16 + b"\r\n", b"0\r\nX: " + b"a" * TRAILERS),
    b"0\r\n" + b"X: a\r\n" * (TRAILERS // 6 + 1),
)


class Fed:
    """A body that comes in pieces, as a connection gives them on."""

    def __init__(self) -> None:
        self.chunked = ChunkedBody()
        self.body = b""
        self.rest = b""

    def feed(self, *pieces: bytes) -> Fed:
        for piece in pieces:
            data = self.rest + piece
            found, at = self.chunked.take(data, 0)
            self.body += b"".join(found)
            self.rest = data[at:]
        return self


class ChunkTests(SynchronousTestCase):
    def test_good_ones_at_every_split(self) -> None:
        for data, body in GOOD:
            whole = data + b"GET"
            splits = [[whole[:cut], whole[cut:]] for cut in range(len(whole) + 1)]
            for pieces in [*splits, [whole[at : at + 1] for at in range(len(whole))]]:
                fed = Fed().feed(*pieces)
                self.assertEqual((fed.body, fed.rest, fed.chunked.finished), (body, b"GET", True), pieces)

    def test_good_ones_are_not_over_before_their_end(self) -> None:
        for data, _ in GOOD:
            for cut in range(len(data)):
                self.assertFalse(Fed().feed(data[:cut]).chunked.finished)

    def test_bad_ones_at_every_split(self) -> None:
        for data in BAD:
            cuts = range(len(data)) if len(data) < 100 else range(0, len(data), 997)
            for pieces in [[data[:cut], data[cut:]] for cut in cuts]:
                self.assertRaises(BadChunk, Fed().feed, *pieces)

    def test_incomplete_bodies_are_refused_as_soon_as_they_are_wrong(self) -> None:
        for data in (
            b"x",
            b"1x",
            b"1\rx",
            b"1;\n",
            b"1;a\rb",
            b"1;\x00",
            b"\n",
            b"-",
            b"1" * 16,
            b"1\r\na\n",
            b"1\r\nab",
        ):
            self.assertRaises(BadChunk, Fed().feed, data)
        for data in (b"0\r\nX\n", b"0\r\n\n"):
            self.assertRaises(BadChunk, Fed().feed, data)

    def test_extensions_of_a_body_have_a_limit_together(self) -> None:
        half = b"1;%b\r\na\r\n" % (b"x" * (EXTENSIONS // 2 - 1))
        self.assertEqual(Fed().feed(half, half).body, b"aa")
        self.assertTrue(Fed().feed(half, half, b"0\r\n\r\n").chunked.finished)
        for more in (b"1;b\r\n", b"1;", b"1 ", b"0;b\r\n\r\n"):
            self.assertRaises(BadChunk, Fed().feed, half, half, more)
        for one in (b"1;" + b"x" * (EXTENSIONS - 1), b"1;" + b"x" * (EXTENSIONS - 1) + b"\r\na\r\n"):
            Fed().feed(one)
            self.assertRaises(BadChunk, Fed().feed, one.replace(b"x", b"xx", 1))

    def test_trailers_of_a_body_have_a_limit_together(self) -> None:
        half = b"X:%b\r\n" % (b"a" * (TRAILERS // 2 - 4))
        self.assertTrue(Fed().feed(b"0\r\n", half, half, b"\r\n").chunked.finished)
        for more in (b"X:a\r\n", b"X"):
            self.assertRaises(BadChunk, Fed().feed, b"0\r\n", half, half, more)
        for last in (half, half[:-1], half[:-2]):
            Fed().feed(b"0\r\n", half, last)
            self.assertRaises(BadChunk, Fed().feed, b"0\r\n", half, last.replace(b"a", b"aa", 1))

    def test_it_does_not_begin_where_the_data_begin(self) -> None:
        body = ChunkedBody()
        self.assertEqual(body.take(b"before1\r\na\r\n0\r\n\r\nbehind", 6), ([b"a"], 17))

    def test_the_least_number_of_bytes_to_come(self) -> None:
        for data, promised in ((b"", 0), (b"10\r\n", 16), (b"10\r\n12345", 11), (b"1\r\na", 0), (b"1\r\na\r\n", 0)):
            self.assertEqual(Fed().feed(data).chunked.promised, promised, data)
