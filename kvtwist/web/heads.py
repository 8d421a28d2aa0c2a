"""
Heads of requests: the request line by one strict expression, the headers by llhttp, and what RFC 9112 asks of both.

llhttp (`httptools`), as it comes, refuses what smuggles: both lengths, several lengths, codings that do not end in
`chunked`, folded lines, bare CR or LF, whitespace before a colon, control characters. What it lets pass and RFC 9112
does not is refused here: no `Host` or several, any coding but `chunked`, a target in no known form, another version.
"""

from __future__ import annotations

import re

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from kvtwist.web.limits import WebLimits

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_line = re.compile(rb"(%b+) ([!-~]+) HTTP/1\.([01])\r\n" % _TOKEN).match
_line_so_far = re.compile(rb"(%b+( ([!-~]+( (H(T(T(P(/(1(\.([01](\r)?)?)?)?)?)?)?)?)?)?)?)?)?" % _TOKEN).fullmatch
_has_bare_lf = re.compile(rb"(?<!\r)\n").search
_is_absolute = re.compile(rb"[A-Za-z][A-Za-z0-9+.\-]*://").match
_is_host = re.compile(rb"(\[[0-9A-Za-z:.%_~\-]+\]|([0-9A-Za-z\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*)(:[0-9]*)?").fullmatch
_SPACE = b" \t"
"""May stand around a value, and llhttp leaves it there behind one."""
_PLAIN = frozenset({b"GET", b"HEAD", b"PUT", b"POST", b"DELETE", b"OPTIONS", b"PATCH"})
"""Methods of which llhttp thinks nothing special."""


def is_target(target: bytes) -> bool:
    """Whether a request target has one of the forms that are known here: a path, `*`, or absolute (RFC 9112, 3.2)."""
    return target.startswith(b"/") or target == b"*" or _is_absolute(target) is not None


def is_host(value: bytes) -> bool:
    """Whether it is what may stand in `Host`: RFC 9112, 3.2, has all else refused."""
    return _is_host(value) is not None


class BadHead(Exception):
    """It is not the head of a request."""


class Head:
    """
    Reads one head after the other.

    :ivar method: as it was sent.
    :ivar target: the request target.
    :ivar version: what follows `HTTP/1.`.
    :ivar length: of the body; None for one in chunks.
    :ivar expects: whether the client waits for `100 Continue`.
    """

    __slots__ = (
        "_codings",
        "_host",
        "_hosts",
        "_parser",
        "_tokens",
        "expects",
        "length",
        "method",
        "target",
        "version",
    )

    def __init__(self) -> None:
        self._parser: HttpRequestParser | None = None
        self._host = b""
        """The last `Host`, which is known to be well-formed."""

    def read(self, data: bytes) -> None:
        """
        Read a whole head, the empty line included.

        :raises BadHead: it is none.
        """
        line = _line(data)
        if line is None:
            raise BadHead
        self.method, self.target, self.version = line.groups()
        self.length: int | None = 0
        self.expects = False
        self._hosts = self._codings = 0
        self._tokens: bytes = b""
        parser = self._parser
        if parser is None:
            parser = HttpRequestParser(self)
        if self.method not in _PLAIN:
            data = b"GET" + data[len(self.method) :]
        self._parser = None
        try:
            parser.feed_data(data)
        except HttpParserUpgrade:
            pass
        except HttpParserError as error:
            raise BadHead from error
        else:
            # A body does not go through llhttp, which would wait for it.
            if self.length == 0 and not self._codings and not self._tokens:
                self._parser = parser
        if self._codings:
            self.length = None
        if self._hosts != 1 and (self._hosts or self.version == b"1"):
            raise BadHead
        if self.target[0] != 0x2F and not is_target(self.target):
            raise BadHead

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by llhttp with each header."""
        note = _NOTED.get(name.lower())
        if note is not None:
            note(self, value)

    def _note_host(self, value: bytes) -> None:
        self._hosts += 1
        if value != self._host:
            if not is_host(value.strip(_SPACE)):
                raise BadHead
            self._host = value

    def _note_length(self, value: bytes) -> None:
        digits = value.strip(_SPACE)
        if not digits.isdigit():
            raise BadHead
        self.length = int(digits)

    def _note_coding(self, value: bytes) -> None:
        self._codings += 1
        if self._codings > 1 or value.strip(_SPACE).lower() != b"chunked" or self.version == b"0":
            raise BadHead

    def _note_connection(self, value: bytes) -> None:
        self._tokens += b"," + value.lower()

    def _note_expectation(self, value: bytes) -> None:
        self.expects = value.strip(_SPACE).lower() == b"100-continue" and self.version == b"1"

    def keep_alive(self) -> bool:
        """Whether the client will go on with this connection (RFC 9112, 9.3)."""
        if not self._tokens:
            return self.version == b"1"
        tokens = {token.strip() for token in self._tokens.split(b",")}
        return b"close" not in tokens and (self.version == b"1" or b"keep-alive" in tokens)


_NOTED = {
    b"host": Head._note_host,
    b"content-length": Head._note_length,
    b"transfer-encoding": Head._note_coding,
    b"connection": Head._note_connection,
    b"expect": Head._note_expectation,
}


def fault_in(data: bytes, at: int, end: int, seen: int, limits: WebLimits) -> int:
    """
    What is wrong with a head that is long, or not all there: a status, or 0 for nothing. Nobody has to wait for the end
    of it to hear of that; and it is the same, in whatever pieces the head comes.

    :param at: where it begins.
    :param end: where the empty line behind it begins; -1: it has not come.
    :param seen: how many bytes of it have been looked at before.
    """
    start = data[at : at + limits.head + 3]
    line_end = start.find(b"\r\n")
    line = start if line_end < 0 else start[: line_end + 2]
    target_at = line.find(b" ") + 1
    if target_at and len(line) > target_at + limits.target:
        line_so_far = line[: target_at + limits.target + 1]
        if b" " not in line_so_far[target_at:]:
            return 414 if _line_so_far(line_so_far) else 400
    if not (_line(line) if line_end >= 0 else _line_so_far(line) or line == b"\r"):
        return 400
    if _has_bare_lf(start, seen):
        return 400
    size = end - at if end >= 0 else len(data) - at - 3
    return 431 if size > limits.head else 0
