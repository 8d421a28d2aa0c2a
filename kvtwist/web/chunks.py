"""
Chunked bodies (RFC 9112, 7.1), read strictly.

A chunk is its size in hexadecimal digits, CRLF, so many bytes, CRLF; the last has size 0, and trailers may follow it.
Chunk extensions, which nobody uses, are refused: peers that read them differently are how requests are smuggled.
Trailers are read over, as the RFC allows (7.1.2).
"""

from __future__ import annotations

import re

_is_size = re.compile(rb"[0-9A-Fa-f]{1,15}").fullmatch
_is_trailer = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*").fullmatch
MAX_SIZE_LINE = 64
MAX_TRAILERS = 8 * 1024


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
        if self._left > 2:
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
        if not _is_size(line):
            raise BadChunk("a chunk has no size")
        size = int(line, 16)
        if size:
            self._left = size + 2
        else:
            self._in_trailers = True

    def _check_unfinished(self, data: bytes, at: int) -> None:
        """Refuse early what will not become a line."""
        rest = data[at:].removesuffix(b"\r")
        if self._in_trailers:
            if len(rest) + self._trailers > MAX_TRAILERS or b"\n" in rest:
                raise BadChunk("there are too many trailers")
        elif (rest and not _is_size(rest)) or len(rest) > MAX_SIZE_LINE:
            raise BadChunk("a chunk has no size")

    @property
    def promised(self) -> int:
        """How many bytes more there will be at least."""
        return max(self._left - 2, 0)
