"""Server-sent events as a client reads them, from a blocking socket or inside the test's own reactor."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.client import HTTPConnection
from types import TracebackType
from typing import Any

from attrs import field, frozen
from twisted.internet.defer import DeferredQueue
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from tests.support.server import PATIENCE
from tests.support.wire import Address


@frozen
class Told:
    """
    One block of a stream.

    :ivar kind: the event's name; "comment"; or "" for a block that only has an id.
    :ivar id: None if the block has none.
    """

    kind: str
    id: str | None
    data: Any = None

    @property
    def change(self) -> tuple[str, Any, Any]:
        """Kind, key and value, or None where there is none."""
        return self.kind, self.data.get("key"), self.data.get("value", self.data.get("value_base64"))


@frozen
class Parser:
    """Takes lines, and gives a `Told` at the end of each block."""

    _fields: dict[str, str] = field(factory=dict)

    def feed(self, line: str) -> Told | None:
        if line:
            name, colon, value = line.partition(":")
            assert colon, line
            assert name not in self._fields or name == "data", line
            self._fields[name] = self._fields.get(name, "") + value.removeprefix(" ")
            return None
        fields = dict(self._fields)
        self._fields.clear()
        assert set(fields) <= {"", "event", "data", "id", "retry"}, fields
        if "" in fields:
            return Told("comment", None)
        data = json.loads(fields["data"]) if "data" in fields else None
        return Told(fields.get("event", ""), fields.get("id"), data)


class EventStream:
    """A watch over a blocking socket. Iterating ends when the server ends the response."""

    def __init__(self, address: Address, query: str = "", last_id: str | None = None) -> None:
        self._connection = HTTPConnection(*address, timeout=PATIENCE)
        self._connection.request(
            "GET", f"/v1/watch{query}", headers={} if last_id is None else {"Last-Event-ID": last_id}
        )
        self.response = self._connection.getresponse()
        self.status = self.response.status
        self._parser = Parser()

    def __enter__(self) -> EventStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._connection.close()

    def __iter__(self) -> Iterator[Told]:
        while line := self.response.readline():
            told = self._parser.feed(line.decode().removesuffix("\n"))
            if told is not None:
                yield told

    def take(self, count: int) -> list[Told]:
        """The next events that tell of changes."""
        found: list[Told] = []
        while len(found) < count:
            told = next(iter(self), None)
            assert told is not None, f"ended after {found}"
            if told.data is not None:
                found.append(told)
        return found


class Collector(Protocol):
    """Receives the body of a watch in the reactor: `queue` has each block, and None at the end."""

    def __init__(self) -> None:
        self.queue: DeferredQueue[Told | None] = DeferredQueue()
        self._parser = Parser()
        self._rest = b""

    def dataReceived(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            told = self._parser.feed(line.decode())
            if told is not None:
                self.queue.put(told)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.queue.put(None)

    async def take(self, count: int) -> list[Told]:
        """The next events that tell of changes."""
        found: list[Told] = []
        while len(found) < count:
            told = await self.queue.get()
            assert told is not None, f"ended after {found}"
            if told.data is not None:
                found.append(told)
        return found
