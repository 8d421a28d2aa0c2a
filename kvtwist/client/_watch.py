"""
Watching keys: a stream of changes that survives its connections.

The server numbers only the last change of a transaction. So a stream that is resumed after the last number begins with
a whole transaction, and the changes of it that were told before the cut are dropped. When the server no longer has the
changes, the watch lists the keys and goes on from there.

Whatever it waits for can be cancelled: nothing is lost, and the next call goes on.
"""

from __future__ import annotations

from collections import deque

import msgspec
from attrs import define
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from kvtwist.client._api import MAX_PAGE, Api
from kvtwist.client._coverage import Coverage
from kvtwist.client._deferred import within
from kvtwist.client._http import Body, Cut
from kvtwist.client._sse import Event, EventTooLarge, Parser
from kvtwist.client.changes import Change, Clear, Delete, Expire, Listed, Put, Reset, Told
from kvtwist.client.errors import Gone, TooLarge, Unavailable, Unexpected
from kvtwist.client.records import Item, Record, decoded

SILENCE = 45.0
"""Seconds without a byte, not even a heartbeat, after which a connection counts as lost."""


class _Removed(msgspec.Struct):
    revision: int
    modified: int
    key: str = ""


@define
class _Stream:
    """An open connection."""

    body: Body
    parser: Parser


class Watch:
    """
    The changes of some keys, in the order of their revisions. Iterate over it with `async for`; use it as an `async
    with` block, or call `close`, to end it. (It also ends when nothing refers to it any more.)

    :ivar revision: the last transaction of which all changes were told; `after` that another watch goes on. None while
        that is not known: before anything was told, and within a listing.
    """

    def __init__(
        self,
        api: Api,
        prefix: str | None,
        key: str | None,
        after: int | None,
        lists: bool,
        max_event: int,
        tries: int,
    ) -> None:
        """
        :param prefix: of the keys; or one `key`.
        :param lists: whether to begin with a listing.
        :param max_event: how large an event may be, in bytes.
        :param tries: how often to try before the first success; after that, a watch tries for ever.
        """
        self.revision = after
        self._api = api
        self._asked = {"prefix": prefix or ""} if key is None else {"key": key}
        self._key = key
        self._max_event = max_event
        self._tries = tries
        self._failures = 0
        self._has_begun = False
        self._stream: _Stream | None = None
        self._events: deque[Event] = deque()
        self._listed: deque[Told] = deque()
        self._coverage: Coverage | None = None
        """Of a listing that is under way, or whose changes the stream may still repeat."""
        self._lists = False
        self._next_page: str | None = None
        self._given = (0, 0)
        """The transaction of which not all changes were told yet, and how many were."""
        self._to_skip = 0
        self._receiving: Deferred[None] | None = None
        self._closed = False
        if lists:
            self._start_listing()

    # --- for the caller -------------------------------------------------------------------------------------------

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> Told:
        """
        The next change.

        :raises Unavailable: the server could not be reached, or could not serve, from the start.
        :raises ClientError: the server refuses, or tells what makes no sense.
        """
        while not self._closed:
            if self._listed:
                return self._listed.popleft()
            if self._events:
                told = self._told(self._events.popleft())
                if told is not None:
                    return told
            else:
                await self._receive_unless_closed()
        raise StopAsyncIteration

    async def __aenter__(self) -> Watch:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it, and close its connection."""
        self._closed = True
        if self._receiving is not None:
            self._receiving.cancel()
        self._drop_stream()

    def __del__(self) -> None:
        if self._stream is not None:
            self._api.requests.soon(self._stream.body.close)

    # --- connections ----------------------------------------------------------------------------------------------

    async def _receive_unless_closed(self) -> None:
        self._receiving = Deferred.fromCoroutine(self._receive())
        try:
            await self._receiving
        except CancelledError:
            if not self._closed:
                raise
        finally:
            self._receiving = None

    async def _receive(self) -> None:
        """Do the next thing that may bring events."""
        try:
            if self._lists:
                await self._list_more()
            elif self._stream is None:
                await self._connect()
            else:
                await self._read(self._stream)
        except Unavailable as error:
            self._drop_stream()
            self._failures += 1
            if not self._has_begun and (self._lists or self._failures >= self._tries):
                self._failures = 0
                raise
            wait = max(error.retry_after or 0.0, self._api.requests.backoff.seconds(self._failures))
            await deferLater(self._api.requests.clock, wait)
        except Gone:
            self._start_listing()

    async def _connect(self) -> None:
        after = {} if self.revision is None else {"after": str(self.revision)}
        body = await self._api.watch({**self._asked, **after})
        self._stream = _Stream(body, Parser(self._max_event))
        self._to_skip = self._given[1]

    async def _read(self, stream: _Stream) -> None:
        try:
            piece = await within(SILENCE, self._api.requests.clock, stream.body.read(), _silent)
            if not piece:
                raise Cut("the server has ended the stream")
            self._events.extend(stream.parser.feed(piece))
        except Cut as error:
            raise Unavailable(str(error)) from error
        except EventTooLarge as error:
            self._drop_stream()
            raise TooLarge(str(error)) from error
        self._succeed()

    def _succeed(self) -> None:
        self._failures = 0
        self._has_begun = True

    def _drop_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.body.close()

    # --- events ---------------------------------------------------------------------------------------------------

    def _told(self, event: Event) -> Change | None:
        """What an event tells, unless it was told before; moves on."""
        told = _change(event)
        if told is None:
            self._reach(event.id)
            return None
        revision = told.revision
        if self._to_skip and revision == self._given[0]:
            self._to_skip -= 1
            told = None
        else:
            self._to_skip = 0
            before = self._given[1] if self._given[0] == revision else 0
            self._given = revision, before + 1
            told = self._unlisted(told)
            if self._lists:
                return None
        self._reach(event.id)
        return told

    def _reach(self, id: str | None) -> None:
        if id is None:
            return
        if not (id.isascii() and id.isdigit()):
            raise Unexpected(f"the id of an event is not a revision: {id[:40]!r}")
        self.revision = int(id)

    def _unlisted(self, told: Change) -> Change | None:
        """A change, unless the listing before it shows it already."""
        coverage = self._coverage
        if coverage is None:
            return told
        if told.revision > coverage.last:
            self._coverage = None
            return told
        if isinstance(told, Clear):  # some pages are from before it, others from after it
            self._drop_stream()
            self._events.clear()
            self._start_listing()
            return None
        return None if coverage.shows(told.key, told.revision) else told

    # --- listings -------------------------------------------------------------------------------------------------

    def _start_listing(self) -> None:
        self.revision = None
        self._given, self._to_skip = (0, 0), 0
        self._coverage = Coverage()
        self._lists, self._next_page = True, None
        self._listed.append(Reset())

    async def _list_more(self) -> None:
        coverage = self._coverage
        assert coverage is not None
        records, following, revision = await self._page()
        self._succeed()
        coverage.add(following, revision)
        self._listed.extend(map(Put, records))
        self._next_page = following
        if following is None:
            self._lists = False
            self.revision = coverage.first
            self._listed.append(Listed(coverage.first))

    async def _page(self) -> tuple[list[Record], str | None, int]:
        if self._key is None:
            page = await self._api.page(self._asked["prefix"], self._next_page, None, MAX_PAGE, False, False)
            return page.records, page.following, page.revision
        body = msgspec.json.encode({"then": [{"get": {"key": self._key}}]})
        answered = await self._api.txn(body, repeatable=True, writes=False)
        found = bytes(answered.results[0])
        return [] if found == b"null" else [decoded(found, Item).record()], None, answered.revision


def _silent(failure: Failure) -> Exception:
    return Cut(f"silent for {SILENCE:g} s")


def _change(event: Event) -> Change | None:
    if not event.data:
        return None
    if event.kind == "put":
        return Put(decoded(event.data, Item).record())
    if event.kind not in ("delete", "expire", "clear"):  # `gone`: the stream ends, and the next one begins or is 410
        return None
    removed = decoded(event.data, _Removed)
    if event.kind == "clear":
        return Clear(removed.revision, removed.modified)
    return (Delete if event.kind == "delete" else Expire)(removed.key, removed.revision, removed.modified)
