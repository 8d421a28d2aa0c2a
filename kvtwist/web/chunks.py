"""
Chunked bodies (RFC 9112, 7.1), read strictly.

A chunk is its size in hexadecimal digits, CRLF, that many bytes, CRLF; the last has size 0, and trailers may follow it.
Chunk extensions and trailers are ignored, as the RFC requires (7.1.1, 7.1.2). But their form is checked to the letter:
a request can be smuggled past a proxy that reads them differently. The total size of each in one body is limited.
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
"""Bytes in one body, all extensions or trailers together."""


class BadChunk(Exception):
    """The bytes are not a chunked body."""


class ChunkedBody:
    """
    Decodes one body.

    :ivar finished: whether its end has been read.
    """

    def __init__(self) -> None:
        self.finished = False
        self._left = 0
        """Bytes of the current chunk that have not come yet, its CRLF included."""
        self._extensions = 0
        self._in_trailers = False
        self._trailers = 0

    def take(self, data: bytes, at: int) -> tuple[list[bytes], int]:
        """
        Decode as much as possible from a position on.

        Returns the pieces of the body, and the position of the bytes that are not decoded yet: pass them again, with
        those that arrive next.

        :raises BadChunk: the bytes are not a chunked body.
        """
        pieces: list[bytes] = []
        end = len(data)
        while at < end and not self.finished:
            if self._left:
                at = self._take_chunk(data, at, pieces)
                if self._left == 2:
                    break  # its CRLF has not come yet
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
                raise BadChunk("a chunk is longer than its size says")
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
                raise BadChunk("malformed trailer, or too many")
            return
        digits, extensions = self._split(line)
        if not _are_extensions(extensions):
            raise BadChunk("malformed chunk extension")
        self._extensions += len(extensions)
        size = int(digits, 16)
        if size:
            self._left = size + 2
        else:
            self._in_trailers = True

    def _split(self, line: bytes) -> tuple[bytes, bytes]:
        """The digits of a chunk's size, and its extensions as far as they have come."""
        found = _size_and_rest(line)
        if found is None:
            raise BadChunk("malformed chunk size")
        digits, extensions = found.groups()
        if self._extensions + len(extensions) > MAX_EXTENSIONS:
            raise BadChunk("too many chunk extensions")
        return digits, extensions

    def _check_unfinished(self, data: bytes, at: int) -> None:
        """Refuse an unfinished line that no more bytes can make valid."""
        rest = data[at:].removesuffix(b"\r")
        if self._in_trailers:
            if self._trailers + len(rest) + 2 > MAX_TRAILERS or b"\n" in rest:
                raise BadChunk("too many trailers")
        elif rest:
            self._split(rest)

    @property
    def promised(self) -> int:
        """How many more bytes the body has at least."""
        return max(self._left - 2, 0)
