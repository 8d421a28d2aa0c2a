"""
The access log: one line an exchange, in the Common Log Format or as JSON.

Lines are gathered for a moment and logged together: an event of `twisted.logger` costs more than a request.
"""

from __future__ import annotations

import re
from collections.abc import Callable
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
FLUSH_LINES = 1000
_is_plain = re.compile(r"[ !#-\[\]-~]*").fullmatch
_to_json = msgspec.json.Encoder().encode


class Told(Protocol):
    """A request that is over."""

    def exchange(self, route: Any, seconds: float) -> Exchange:
        """All that there is to tell of it."""


class AccessLog(Service):
    """:param line: what is written of an exchange that ended at a time (seconds since the epoch)."""

    def __init__(self, line: Callable[[Exchange, float], str], clock: IReactorTime) -> None:
        self._line = line
        self._clock = clock
        self._lines: list[str] = []
        self._flushing: IDelayedCall | None = None

    def __call__(self, request: Told, route: object, seconds: float) -> None:
        """Write a line, soon."""
        lines = self._lines
        lines.append(self._line(request.exchange(route, seconds), self._clock.seconds()))
        if self._flushing is None:
            self._flushing = self._clock.callLater(FLUSH_SECONDS, self.flush)
        elif len(lines) >= FLUSH_LINES:
            self.flush()

    def flush(self) -> None:
        """Write what has been gathered."""
        if self._flushing is not None and self._flushing.active():
            self._flushing.cancel()
        self._flushing = None
        lines, self._lines = self._lines, []
        if lines:
            log.info("{lines}", lines="\n".join(lines))

    def stopService(self) -> None:
        """Write the last lines."""
        super().stopService()
        self.flush()


@lru_cache(maxsize=2)
def _clf_time(second: int) -> str:
    return datetime.fromtimestamp(second, timezone.utc).strftime("%d/%b/%Y:%H:%M:%S +0000")


def common(exchange: Exchange, now: float) -> str:
    """NCSA Common Log Format; `499` is nginx's status for a client that left."""
    request = b"%b %b %b" % (exchange.method, exchange.target, exchange.version)
    text = request.decode("latin-1")
    if not _is_plain(text):
        text = text.encode("unicode_escape").decode().replace('"', '\\"')
    return f'{exchange.client} - - [{_clf_time(int(now))}] "{text}" {exchange.status or 499} {exchange.size}'


def json(exchange: Exchange, now: float) -> str:
    """An object with everything that is known; `time` is in seconds since the epoch."""
    fields = {
        "time": round(now, 3),
        "profile": exchange.profile,
        "route": exchange.route,
        "client": exchange.client,
        "method": exchange.method.decode("latin-1"),
        "target": exchange.target.decode("latin-1"),
        "version": exchange.version.decode("latin-1"),
        "status": exchange.status,
        "seconds": exchange.seconds,
        "size": exchange.size,
    }
    text = _to_json(fields).decode()
    return text if text.isascii() else dumps(fields)  # in ASCII no character of a target ends the line


FORMATS = {"common": common, "json": json}
