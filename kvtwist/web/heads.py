"""
Heads of requests: a strict regular expression parses the request line, llhttp (`httptools`) the headers.

llhttp refuses what requests are smuggled with: both `Content-Length` and `Transfer-Encoding`, several lengths, codings
that do not end in `chunked`, folded lines, bare CR or LF, whitespace before a colon, control characters. This module
refuses what llhttp accepts and RFC 9112 forbids: no `Host` or several, any coding but `chunked`, a target in no known
form, another version.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from attrs import frozen
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from kvtwist.methods import METHODS
from kvtwist.web.limits import WebLimits
from kvtwist.web.origins import ORIGIN_HEADERS, Origins, Sender
from kvtwist.web.routing import Found, Router, preflight_route

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_VERSION = (b"H", b"T", b"T", b"P", b"/", b"1", rb"\.")


def _any_start_of(*parts: bytes) -> bytes:
    """An expression for any number of these parts from the first one on: A, B, C gives (?:A(?:B(?:C)?)?)?."""
    expression = b""
    for part in reversed(parts):
        expression = b"(?:%b%b)?" % (part, expression)
    return expression


_line = re.compile(rb"%b+ [!-~]+ HTTP/1\.([01])\r\n" % _TOKEN).match
_is_token = re.compile(rb"%b+" % _TOKEN).fullmatch
_line_so_far = re.compile(_any_start_of(_TOKEN + b"+", b" ", b"[!-~]+", b" ", *_VERSION, b"[01]", b"\r")).fullmatch
_has_bare_lf = re.compile(rb"(?<!\r)\n").search
_absolute = re.compile(rb"[A-Za-z][A-Za-z0-9+.\-]*://([^/?]+)").match
_is_host = re.compile(rb"(\[[0-9A-Za-z:.%_~\-]+\]|([0-9A-Za-z\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*)(:[0-9]*)?").fullmatch
_SPACE = b" \t"
"""Allowed around a value; llhttp does not remove it after one."""
PRECONDITIONS = frozenset({b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since"})
FOR_HANDLERS = PRECONDITIONS | {b"accept", b"content-type", b"if-range", b"last-event-id", b"range"}
"""Headers that handlers may ask for."""
NO_HEADERS: Mapping[bytes, bytes] = MappingProxyType({})
_KEPT = 1024
"""How many heads are cached."""
_KEPT_BYTES = 1024
"""The longest head that is cached."""


def is_target(target: bytes) -> bool:
    """Whether a request target is a path, `*`, or absolute (RFC 9112, 3.2)."""
    if target.startswith(b"/") or target == b"*":
        return True
    absolute = _absolute(target)
    return absolute is not None and is_host(absolute.group(1))


def is_host(value: bytes) -> bool:
    """Whether a value is valid in `Host`; RFC 9112, 3.2, requires servers to refuse any other."""
    return _is_host(value) is not None


class BadHead(Exception):
    """The bytes are not the head of a request."""


@frozen
class Fields:
    """
    All of a head but its method and its target.

    :ivar version: the minor version, `0` or `1`.
    :ivar length: of the body, in bytes; None for a chunked one.
    :ivar expects: whether the client waits for `100 Continue`.
    :ivar keep_alive: whether the connection stays open after the response (RFC 9112, 9.3).
    :ivar headers: those that handlers may ask for, by lower-case name; a repeated one has its values joined by commas.
    :ivar conditional: whether there is a precondition (RFC 9110, 13.1).
    :ivar sender: the web page that made a browser send it; None for other clients.
    """

    version: bytes
    length: int | None
    expects: bool
    keep_alive: bool
    headers: Mapping[bytes, bytes] = NO_HEADERS
    conditional: bool = False
    sender: Sender | None = None


Head = tuple[bytes, bytes, Fields, Found]
"""The method as it was sent, the request target, the rest, and the route with its key."""


class HeadReader:
    """
    Reads heads, for all connections.

    The requests of a client usually differ only in method and target. So what llhttp makes of the rest is cached, and
    llhttp parses only what it has not seen.
    """

    def __init__(self, router: Router, origins: Origins | None = None) -> None:
        self._find = router.find
        self._origins = origins or Origins()
        self._known: dict[bytes, Fields] = {}
        """By all that follows the target in a head."""

    def read(self, data: bytes) -> Head:
        """
        Parse a whole head, its empty line included.

        :raises BadHead: the data is not a head.
        """
        try:
            method, target, said = data.split(b" ", 2)
        except ValueError:
            raise BadHead from None
        return self._head(method, target, self._known.get(said) or self._read_fields(data, said))

    def read_request(self, data: bytes) -> tuple[Head, bytes] | None:
        """
        The head and the body of a request, if `data` is exactly one request and its headers are cached. That holds for
        most requests. None: parse the data with a `Reader`, whether it is valid or not.
        """
        try:
            method, target, said = data.split(b" ", 2)
            body = b""
            fields = self._known.get(said)
            if fields is None:
                end = said.find(b"\r\n\r\n") + 4
                body = said[end:]
                fields = self._known.get(said[:end])
            if fields is None or fields.length != len(body):
                return None
            return self._head(method, target, fields), body
        except (ValueError, BadHead):
            return None

    def _head(self, method: bytes, target: bytes, fields: Fields) -> Head:
        text = target.decode("latin-1")
        # `isprintable` allows spaces, but the head was split at them.
        if not (method in METHODS or _is_token(method)) or not (text.isascii() and text.isprintable()):
            raise BadHead
        if text[:1] != "/" and not is_target(target):
            raise BadHead
        sender = fields.sender
        if sender is not None and sender.preflight is not None and method == b"OPTIONS":
            return method, target, fields, (preflight_route({"headers": sender.preflight}), None)
        return method, target, fields, self._find(method, text)

    def _read_fields(self, data: bytes, said: bytes) -> Fields:
        line = _line(data)
        if line is None:
            raise BadHead
        fields = _Collector(line.group(1), self._origins).read(said)
        if len(said) <= _KEPT_BYTES:
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[said] = fields
        return fields


class _Collector:
    """Receives the headers that llhttp parses."""

    def __init__(self, version: bytes, origins: Origins) -> None:
        self._version = version
        self._origins = origins
        self._host = b""
        self._of_page: dict[bytes, bytes] = {}
        self._length: int | None = 0
        self._expects = False
        self._hosts = 0
        self._chunked = False
        self._tokens = b""
        self._headers: dict[bytes, bytes] = {}

    def read(self, said: bytes) -> Fields:
        """
        Parse headers.

        :param said: a head from its version on.
        :raises BadHead: llhttp or RFC 9112 refuses them.
        """
        try:
            # llhttp knows few methods and treats some specially; the headers mean the same with any method.
            HttpRequestParser(self).feed_data(b"GET / " + said)
        except HttpParserUpgrade:
            pass
        except HttpParserError as error:
            raise BadHead from error
        if self._hosts != 1 and (self._hosts or self._version == b"1"):
            raise BadHead
        return Fields(
            self._version,
            None if self._chunked else self._length,
            self._expects,
            self._keep_alive(),
            self._headers or NO_HEADERS,
            not PRECONDITIONS.isdisjoint(self._headers),
            self._origins.sender(self._host, self._of_page) if self._of_page else None,
        )

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by llhttp for each header."""
        name = name.lower()
        note = _NOTED.get(name)
        if note is not None:
            note(self, value)
        elif name in FOR_HANDLERS:
            before = self._headers.get(name)
            self._headers[name] = value if before is None else before + b", " + value
        elif name in ORIGIN_HEADERS:
            before = self._of_page.get(name)
            self._of_page[name] = value.strip(_SPACE) if before is None else before + b", " + value

    def _note_host(self, value: bytes) -> None:
        self._hosts += 1
        self._host = value.strip(_SPACE)
        if not is_host(self._host):
            raise BadHead

    def _note_length(self, value: bytes) -> None:
        self._length = int(value)  # llhttp has refused all but digits with spaces around them

    def _note_coding(self, value: bytes) -> None:
        self._chunked = True  # llhttp has refused more than one coding
        if value.strip(_SPACE).lower() != b"chunked" or self._version == b"0":
            raise BadHead

    def _note_connection(self, value: bytes) -> None:
        self._tokens += b"," + value.lower()

    def _note_expectation(self, value: bytes) -> None:
        self._expects = value.strip(_SPACE).lower() == b"100-continue" and self._version == b"1"

    def _keep_alive(self) -> bool:
        tokens = {token.strip() for token in self._tokens.split(b",")}
        return b"close" not in tokens and (self._version == b"1" or b"keep-alive" in tokens)


_NOTED = {
    b"host": _Collector._note_host,
    b"content-length": _Collector._note_length,
    b"transfer-encoding": _Collector._note_coding,
    b"connection": _Collector._note_connection,
    b"expect": _Collector._note_expectation,
}


def fault_in(data: bytes, at: int, end: int, seen: int, limits: WebLimits) -> int:
    """
    Check a head that is long, or not complete yet; returns a status, or 0 if nothing is wrong so far.

    A client gets the status without sending the rest, and the same one whatever the pieces in which the head arrives.

    :param at: where the head begins.
    :param end: where the empty line after it begins; -1: it has not come.
    :param seen: how many bytes of the head were checked before.
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
