"""
The access log: one line for each exchange, in the Common Log Format or as JSON.

Exchanges are gathered for a moment, and their lines logged together: a `twisted.logger` event for each would cost more
than the request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from functools import lru_cache
from json import dumps
from typing import Any, Protocol

import msgspec
from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from kvtwist.model import Exchange
from kvtwist.ops.logs import ACCESS

log = Logger(namespace=ACCESS)

FLUSH_SECONDS = 0.05
FLUSH_LINES = 250
"""With fewer lines, log events cost more; more do not fit the processor's cache, and hold the reactor longer."""
_to_json_lines = msgspec.json.Encoder().encode_lines


class Telling(Protocol):
    """A request that was answered or refused."""

    def exchange(self, route: Any, seconds: float) -> Exchange:
        """The request and its response."""


class AccessLog(Service):
    """:param lines: formats exchanges, one line for each."""

    def __init__(self, lines: Callable[[Sequence[Exchange]], str], clock: IReactorTime) -> None:
        self._lines = lines
        self._clock = clock
        self._told: list[Exchange] = []
        self._flushing: IDelayedCall | None = None

    def __call__(self, request: Telling, route: object, seconds: float) -> None:
        """Log an exchange, within `FLUSH_SECONDS`."""
        told = self._told
        told.append(request.exchange(route, seconds))
        if self._flushing is None:
            self._flushing = self._clock.callLater(FLUSH_SECONDS, self.flush)
        elif len(told) >= FLUSH_LINES:
            self.flush()

    def flush(self) -> None:
        """Log the exchanges that are gathered."""
        if self._flushing is not None and self._flushing.active():
            self._flushing.cancel()
        self._flushing = None
        told, self._told = self._told, []
        if told:
            log.info("{lines}", lines=self._lines(told))

    def stopService(self) -> None:
        """Log the last exchanges."""
        super().stopService()
        self.flush()


@lru_cache(maxsize=1000)
def _start(client: str, second: int) -> bytes:
    moment = datetime.fromtimestamp(second, timezone.utc)
    return f'{client} - - [{moment:%d/%b/%Y:%H:%M:%S} +0000] "'.encode("ascii", "replace")


def common(told: Sequence[Exchange]) -> str:
    """NCSA Common Log Format."""
    lines = [
        b'%b%b %b %b" %d %d' % (_start(e.client, int(e.ended)), e.method, e.target, e.version, e.status, e.size)
        for e in told
    ]
    text = b"\n".join(lines).decode("latin-1")
    # With line breaks, quotes or control characters in its request, a client could forge lines or garble a terminal.
    # One check of all lines is cheap; only if it fails are they escaped one by one.
    plain = text.replace("\n", "")
    if (
        plain.isascii()
        and plain.isprintable()
        and "\\" not in plain
        and plain.count('"') == 2 * len(lines)
        and len(text) - len(plain) == len(lines) - 1
    ):
        return text
    return "\n".join(map(_escaped, told))


def _escaped(exchange: Exchange) -> str:
    request = b"%b %b %b" % (exchange.method, exchange.target, exchange.version)
    text = request.decode("latin-1").encode("unicode_escape").decode().replace('"', '\\"')
    return f'{_start(exchange.client, int(exchange.ended)).decode()}{text}" {exchange.status} {exchange.size}'


class _Line(msgspec.Struct, gc=False):
    time: float
    profile: str
    route: str
    client: str
    method: str
    target: str
    version: str
    status: int
    seconds: float
    size: int


def json(told: Sequence[Exchange]) -> str:
    """A JSON object for each exchange; `time` is in seconds since the epoch."""
    lines = [
        _Line(
            int(e.ended * 1000) / 1000,
            e.profile,
            e.route,
            e.client,
            e.method.decode("latin-1"),
            e.target.decode("latin-1"),
            e.version.decode("latin-1"),
            e.status,
            e.seconds,
            e.size,
        )
        for e in told
    ]
    text = _to_json_lines(lines).decode().rstrip("\n")
    if text.isascii():
        return text
    # Some readers take Unicode line separators for the end of a line, and a client may send them: escape to ASCII.
    return "\n".join(dumps(msgspec.structs.asdict(line), separators=(",", ":")) for line in lines)


FORMATS = {"common": common, "json": json}
