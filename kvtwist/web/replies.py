"""
Heads of responses. Those with constant headers are cached until the `Date` changes, which is about once a second.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from types import MappingProxyType

from kvtwist import __version__
from kvtwist.validators import Headers, TaggedHeaders, http_date

SERVER = f"kvtwist/{__version__}".encode()
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
_TABLE = {ord("\r"): " ", ord("\n"): " ", ord("\0"): " "}


class Replies:
    """
    Makes heads, for all connections.

    :param wall: the time, in seconds since the epoch.
    """

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._moment = -1.0
        self._kept: dict[tuple[int, int], tuple[Headers, bytes]] = {}
        """Heads with constant headers and the current date, by status and identity of the headers."""

    def head(self, code: int, headers: Headers, now: float) -> bytes:
        """
        Status line, `Server`, `Date` and the headers of a response; those that frame its body are missing.

        :param headers: cached if they are a `MappingProxyType`.
        :param now: any clock's time; `Date` is made again only when it has changed.
        """
        lines = b""
        if isinstance(headers, TaggedHeaders):
            lines = headers.lines()
            headers = headers.constant
        if now != self._moment:
            self._moment = now
            self._date = http_date(int(self._wall()))
            self._kept.clear()
        kept = self._kept.get((code, id(headers)))
        if kept is not None and kept[0] is headers:
            return kept[1] + lines
        reason = _REASONS.get(code, b"Unknown")
        start = b"HTTP/1.1 %d %b\r\nServer: %b\r\nDate: %b\r\n" % (code, reason, SERVER, self._date)
        head = start + b"".join(_lines(headers))
        if type(headers) is MappingProxyType:
            self._kept[code, id(headers)] = headers, head
        return head + lines

    def refusal(self, code: int, now: float) -> bytes:
        """A whole response that has only a status, and after which the connection closes."""
        retry = b"Retry-After: 1\r\n" if code == 503 else b""
        return self.head(code, {}, now) + retry + b"Content-Length: 0\r\nConnection: close\r\n\r\n"


def _lines(headers: Headers) -> list[bytes]:
    lines = []
    for name, values in headers.items():
        for value in (values,) if isinstance(values, str | bytes) else values:
            lines.append(b"%b: %b\r\n" % (_clean(name), _clean(value)))
    return lines


def _clean(text: str | bytes) -> bytes:
    """The text without characters that would end a header line."""
    decoded = text if isinstance(text, str) else text.decode("latin-1")
    return decoded.translate(_TABLE).encode("latin-1", "replace")
