"""
Watches: the changes of keys as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html), and
long polls.

The id of an event is its revision. Of the events of one transaction only the last one has an id, so a client that comes
back with the id that it saw last misses nothing. It may see the first events of a transaction again if the connection
was lost between two of them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater
from werkzeug.exceptions import BadRequest, ServiceUnavailable

from kvtwist.interfaces import IStore
from kvtwist.model import CLEAR, DATA, Changes, ChangesGone, Event, Get, Position, Record, Watched
from kvtwist.profiles._items import item, on_one_line
from kvtwist.profiles._json import quote
from kvtwist.profiles._reply import LARGE
from kvtwist.profiles._scan import send
from kvtwist.validators import Headers

HEARTBEAT_SECONDS = 15.0
"""How often a comment is sent while there is no change."""
RETRY_MS = 1000
"""How long a client should wait before it comes back."""
HEADERS: Headers = MappingProxyType(
    {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
)
_REMEMBERED = 64
"""How many events are remembered with their text."""
_FEW = 20
"""After more events than these the reactor goes on before the next ones."""


class Watches:
    """
    The watches of one profile.

    :param most: how many there may be.
    :ivar count: how many there are, long polls included.
    """

    def __init__(self, store: IStore, most: int) -> None:
        self.count = 0
        self._store = store
        self._most = most
        self._encoded: dict[tuple[int, bytes, str, bool], tuple[bytes | None, bytes]] = {}
        """The latest small events, which many watches may tell of."""

    async def answer(self, request: Any, watched: Watched, after: int | None) -> None:
        """
        Tell of all changes after a revision, or from now on, until the client leaves or the server stops.

        :raises ChangesGone: that is not possible.
        """
        with self._counted(request):
            after, found = await self._begin(watched, after)
            for name, value in HEADERS.items():
                request.setHeader(name, value)
            if request.method != b"HEAD":
                with suppress(CancelledError):
                    await send(request, self._stream(request, watched, after, found))

    async def next_record(
        self, request: Any, key: bytes, after: int | None, seconds: float
    ) -> tuple[int, Record | None, bool]:
        """
        Wait for so many seconds until a key has changed after a revision, or from now on.

        Returns the store's revision, the record of the key at that revision, and whether it has changed.
        """
        watched = Watched(DATA, key)
        if after is None:
            after, _ = await self._begin(watched, None)
        revision, record = await self._read(key)
        if record is not None and record.revision > after:
            return revision, record, True
        with self._counted(request):
            try:
                found = await self._store.changes(watched, Position(after), seconds)
            except CancelledError:  # the client has left, or the server is stopping
                found = Changes((), Position(max(revision, after)))
            except ChangesGone:  # the client has seen an older state, or one that was lost
                return *await self._read(key), True
        if not found.events:
            return found.position.revision, record, False
        return *await self._read(key), True

    async def _begin(self, watched: Watched, after: int | None) -> tuple[int, Changes]:
        """The revision after which a watch tells, and the changes that there have been since."""
        if after is not None:
            return after, await self._store.changes(watched, Position(after))
        now = (await self._store.transact([], [])).revision
        try:
            return now, await self._store.changes(watched, Position(now))
        except ChangesGone as gone:  # records have expired since the last transaction, and made a new revision now
            return gone.oldest, await self._store.changes(watched, Position(gone.oldest))

    async def _read(self, key: bytes) -> tuple[int, Record | None]:
        outcome = await self._store.transact([], [Get(DATA, key)])
        return outcome.revision, outcome.record(0)

    @contextmanager
    def _counted(self, request: Any) -> Iterator[None]:
        if self.count >= self._most:
            raise ServiceUnavailable("too many watches")
        request.endless = True
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1
            request.endless = False

    async def _stream(self, request: Any, watched: Watched, after: int, found: Changes) -> AsyncGenerator[bytes, None]:
        yield b"retry: %d\nid: %d\n\n" % (RETRY_MS, after)
        position = found.position
        try:
            while True:
                async for piece in self._told(request, found):
                    yield piece
                found = Changes((), position)
                while not found.events:
                    found = await self._store.changes(watched, position, HEARTBEAT_SECONDS)
                    position = found.position
                    if not found.events:
                        yield b":\n\n"  # a comment shows that the connection is alive
        except ChangesGone as error:
            yield b'event: gone\ndata: {"oldest":%d}\n\n' % error.oldest

    async def _told(self, request: Any, found: Changes) -> AsyncGenerator[bytes, None]:
        """The text of events, joined where it is short."""
        size = sum(0 if event.record is None else len(event.record.value) for event in found.events)
        if size > LARGE:
            request.hold(size)
        text = bytearray()
        for event in found.events:
            for piece in self._pieces(event):
                if len(piece) <= LARGE:
                    text += piece
                if text and max(len(text), len(piece)) > LARGE:
                    yield bytes(text)
                    text.clear()
                if len(piece) > LARGE:  # it may be the object that the store holds
                    yield piece
        if text:
            yield bytes(text)
        if size > LARGE:
            request.hold(0)
        if len(found.events) > _FEW:
            await deferLater(reactor, 0)  # others are answered before the next events

    def _pieces(self, event: Event) -> Iterator[bytes]:
        """The text of an event; that of a small one is remembered."""
        at = event.revision, event.key, event.kind, event.is_last
        value = None if event.record is None else event.record.value
        known, text = self._encoded.get(at, (None, b""))
        if text and known is value:
            return iter((text,))
        pieces = _encoded(event)
        if value is not None and len(value) > LARGE:
            return pieces
        text = b"".join(pieces)
        if len(self._encoded) >= _REMEMBERED:
            self._encoded.clear()
        self._encoded[at] = value, text
        return iter((text,))


def revision_of(name: str, text: str | None) -> int | None:
    """:raises BadRequest: it is not the number of a revision."""
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise BadRequest(f"{name} is a revision, a whole number")
    return int(text)


def _encoded(event: Event) -> Iterator[bytes]:
    end = b"\nid: %d\n\n" % event.revision if event.is_last else b"\n\n"
    try:
        name = event.key.decode()
    except UnicodeDecodeError:  # such a key cannot be named
        if event.is_last:
            yield end[1:]
        return
    yield b"event: %b\ndata: " % event.kind.encode()
    if event.record is not None:
        before, text, after = item(name, event.record)
        text = on_one_line(text)
        yield before
        if isinstance(text, bytes):
            yield text
        else:
            yield from text
        yield after
    else:
        key = b"" if event.kind == CLEAR else b'"key":%b,' % quote(name)
        yield b'{%b"revision":%d,"modified":%d}' % (key, event.revision, event.time_ms)
    yield end
