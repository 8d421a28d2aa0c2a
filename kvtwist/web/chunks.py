"""
Chunked bodies (RFC 9112, 7.1), read strictly.

A chunk is its size in hexadecimal digits, CRLF, so many bytes, CRLF; the last has size 0, and trailers may follow it.
Chunk extensions and trailers are ignored, as the RFC has it (7.1.1, 7.1.2). But they must have the form that the RFC
gives them, to the letter: a peer that reads them differently is how requests are smuggled. And there is an end to them:
so much of each in one body, and no more.
"""

from __future__ import annotations

import re

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
_size_and_rest = re.compile(rb"([0-9A-Fa-f]{1,15})((?:[\t ;][\t -~\x80-\xff]*)?)").fullmatch
_are_extensions = re.compile(rb"(?:[\t ]*;[\t ]*%b(?:[\t ]*=[\t ]*(?:%b|%b))?)*" % (_TOKEN, _TOKEN, _QUOTED)).fullmatch
_is_trailer = re.compile(rb"%b:[\t -~\x80-\xff]*" % _TOKEN).fullmatch
MAX_EXTENSIONS = 16 * 1024
MAX_TRAILERS = 8 * 1024
"""Bytes, of all that are in one body."""


class BadChunk(Exception):
    """It is not a chunked body."""


class ChunkedBody:
    """
    Takes a body apart.

    :ivar finished: whether its end has been seen.
    """

    def __init__(self) -> None:
        self.finished = False
        self._left = 0
        """Bytes of the current chunk that are still to come, with the CRLF behind them."""
        self._extensions = 0
        self._in_trailers = False
        self._trailers = 0

    def take(self, data: bytes, at: int) -> tuple[list[bytes], int]:
        """
        Take what there is from a position on: the bytes of the body, and where the rest begins, which is to be given
        again with more behind it.

        :raises BadChunk: it is not a chunked body.
        """
        pieces: list[bytes] = []
        end = len(data)
        while at < end and not self.finished:
            if self._left:
                at = self._take_chunk(data, at, pieces)
                if self._left == 2:
                    break  # the CRLF is still to come
                continue
            line_end = data.find(b"\r\n", at)
            if line_end < 0:
                self._check_unfinished(data, at)
                break
            self._take_line(data[at:line_end])
            at = line_end + 2
        return pieces, at

    def _take_chunk(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        piece = data[at : at + self._left - 2]
        pieces.append(piece)
        self._left -= len(piece)
        at += len(piece)
        if self._left == 2:
            ending = data[at : at + 2]
            if not b"\r\n".startswith(ending):
                raise BadChunk("a chunk is longer than it says")
            if len(ending) == 2:
                self._left = 0
                at += 2
        return at

    def _take_line(self, line: bytes) -> None:
        if self._in_trailers:
            self._trailers += len(line) + 2
            if not line:
                self.finished = True
            elif not _is_trailer(line) or self._trailers > MAX_TRAILERS:
                raise BadChunk("a trailer is malformed, or there are too many")
            return
        digits, extensions = self._split(line)
        if not _are_extensions(extensions):
            raise BadChunk("what follows a chunk's size is no extension")
        self._extensions += len(extensions)
        size = int(digits, 16)
        if size:
            self._left = size + 2
        else:
            self._in_trailers = True

    def _split(self, line: bytes) -> tuple[bytes, bytes]:
        """A chunk's size, and what there is of its extensions."""
        found = _size_and_rest(line)
        if found is None:
            raise BadChunk("a chunk has no size")
        digits, extensions = found.groups()
        if self._extensions + len(extensions) > MAX_EXTENSIONS:
            raise BadChunk("there are too many extensions")
        return digits, extensions

    def _check_unfinished(self, data: bytes, at: int) -> None:
        """Refuse early what will not become a line."""
        rest = data[at:].removesuffix(b"\r")
        if self._in_trailers:
            if self._trailers + len(rest) + 2 > MAX_TRAILERS or b"\n" in rest:
                raise BadChunk("there are too many trailers")
        elif rest:
            self._split(rest)

    @property
    def promised(self) -> int:
        """How many bytes more there will be at least."""
        return max(self._left - 2, 0)
