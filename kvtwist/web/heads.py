"""
Heads of requests: the request line by one strict expression, the headers by llhttp, and what RFC 9112 asks of both.

llhttp (`httptools`), as it comes, refuses what smuggles: both lengths, several lengths, codings that do not end in
`chunked`, folded lines, bare CR or LF, whitespace before a colon, control characters. What it lets pass and RFC 9112
does not is refused here: no `Host` or several, any coding but `chunked`, a target in no known form, another version.
"""

from __future__ import annotations

import re

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_line = re.compile(rb"(%b+) ([!-~]+) HTTP/1\.([01])\r\n" % _TOKEN).match
_line_so_far = re.compile(rb"%b*( ([!-~]*( (H(T(T(P(/(1(\.([01](\r)?)?)?)?)?)?)?)?)?)?)?)?" % _TOKEN).fullmatch
_has_bare_lf = re.compile(rb"(?<!\r)\n").search
_PLAIN = frozenset({b"GET", b"HEAD", b"PUT", b"POST", b"DELETE", b"OPTIONS", b"PATCH"})
"""Methods of which llhttp thinks nothing special."""


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

    __slots__ = ("_codings", "_hosts", "_parser", "_tokens", "expects", "length", "method", "target", "version")

    def __init__(self) -> None:
        self._parser: HttpRequestParser | None = None

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
        target = self.target
        if target[0] != 0x2F and target != b"*" and b"://" not in target:
            raise BadHead

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by llhttp with each header."""
        note = _NOTED.get(name.lower())
        if note is not None:
            note(self, value)

    def _note_host(self, value: bytes) -> None:
        self._hosts += 1

    def _note_length(self, value: bytes) -> None:
        if not value.isdigit():
            raise BadHead
        self.length = int(value)

    def _note_coding(self, value: bytes) -> None:
        self._codings += 1
        if self._codings > 1 or value.lower() != b"chunked" or self.version == b"0":
            raise BadHead

    def _note_connection(self, value: bytes) -> None:
        self._tokens += b"," + value.lower()

    def _note_expectation(self, value: bytes) -> None:
        self.expects = value.lower() == b"100-continue" and self.version == b"1"

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


def check_unfinished(data: bytes) -> None:
    """
    Refuse early what will not become a head, so that nobody has to wait to hear of it.

    :raises BadHead: it will not.
    """
    end = data.find(b"\r\n")
    line = data if end < 0 else data[: end + 2]
    if not (_line_so_far(line) if end < 0 else _line(line)) or _has_bare_lf(data):
        raise BadHead
