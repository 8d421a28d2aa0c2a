"""The access log: one line an exchange, in the Common Log Format or as JSON."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from json import dumps
from typing import Any, Protocol

from msgspec.structs import asdict
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from kvtwist.model import Exchange
from kvtwist.ops.logs import ACCESS

log = Logger(namespace=ACCESS)


class Told(Protocol):
    """A request that is over."""

    def exchange(self, route: Any, seconds: float) -> Exchange:
        """All that there is to tell of it."""


class AccessLog:
    """:param line: what is written of an exchange that ended at a time (seconds since the epoch)."""

    def __init__(self, line: Callable[[Exchange, float], str], clock: IReactorTime) -> None:
        self._line = line
        self._clock = clock

    def __call__(self, request: Told, route: object, seconds: float) -> None:
        """Write a line."""
        log.info("{line}", line=self._line(request.exchange(route, seconds), self._clock.seconds()))


def common(exchange: Exchange, now: float) -> str:
    """NCSA Common Log Format; `499` is nginx's status for a client that left."""
    time = datetime.fromtimestamp(now, timezone.utc).strftime("%d/%b/%Y:%H:%M:%S +0000")
    request = b"%b %b %b" % (exchange.method, exchange.target, exchange.version)
    quoted = request.decode("latin-1").encode("unicode_escape").decode().replace('"', '\\"')
    return f'{exchange.client} - - [{time}] "{quoted}" {exchange.status or 499} {exchange.size}'


def json(exchange: Exchange, now: float) -> str:
    """An object with everything that is known; `time` is in seconds since the epoch."""
    fields = {
        name: value.decode("latin-1") if isinstance(value, bytes) else value for name, value in asdict(exchange).items()
    }
    return dumps({"time": round(now, 3), **fields})  # in ASCII: no character of a target ends the line


FORMATS = {"common": common, "json": json}
