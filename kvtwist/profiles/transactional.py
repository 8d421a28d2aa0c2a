"""
`transactional`: POST and DELETE /set stage changes, POST /commit applies them in one transaction.

    GET    /<key>     200 {"key":value}                 404 when there is no such key
    POST   /set       201 new key, 200 known key; the body is {"key":value}, and is returned
    DELETE /set       200; the body is "key", and is returned
    POST   /commit    204

Everything else is 404. Every body is JSON. The last staged change of each key is kept in a keyspace of its own, and is
as durable as the data. Spec 000.
"""

from __future__ import annotations

from typing import Any

from klein import Response
from twisted.internet.defer import Deferred
from werkzeug.exceptions import BadRequest, MethodNotAllowed, NotFound, RequestEntityTooLarge
from zope.interface import implementer

from kvtwist.interfaces import IProfile, IStore
from kvtwist.model import DATA, JSON, STAGED, Clear, Delete, NoRoom, Operation, Peek, Put, Record, Room
from kvtwist.profiles._app import ProfileApp, answer_errors, decoded
from kvtwist.profiles._json import LONGEST_NAME, NotJSON, TooManyMembers, quote, read_members, read_value, string
from kvtwist.profiles._reply import NO_CONTENT, answer_value, json_error, json_reply, pair
from kvtwist.profiles._scan import gathered
from kvtwist.profiles._settings import Settings
from kvtwist.profiles._steps import STEP, Permits, Steps, in_steps

DELETION = "application/x-kvtwist-deletion"
"""Media type of a staged deletion."""
CHANGE_COST = 1000
"""Bytes that a staged change takes besides its key and value, at the latest in the commit; measured, rounded up."""


@implementer(IProfile)
class Transactional:
    """The routes of spec 000."""

    name = "transactional"
    urgent: frozenset[str] = frozenset()
    default_port = 4000
    default_store = "dir"
    app = ProfileApp()

    def __init__(self, store: IStore, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._delayed: list[Deferred[None]] | None = None
        """Requests to stage that wait while a commit is retried."""
        self._gathering = Permits(settings.max_staged)
        """For the bytes that commits gather: all together may have no more in memory than may be staged."""
        self._staging = 0
        """How many requests are staging a change."""
        self._none_staging: Deferred[None] | None = None
        """Fires when none is."""
        # The largest value under the largest key, each byte of it written as \u00XX, and some white space.
        self.max_body = settings.max_value + 6 * settings.max_key + 1024

    @app.route("/<key>", methods=["GET"], conditional=True)
    async def get(self, request: Any, key: str) -> Response | None:
        """The committed value of a key."""
        if request.method != b"GET":
            raise NotFound  # werkzeug routes HEAD like GET
        try:
            name = decoded(key)
        except BadRequest:
            raise NotFound from None
        record = await self._store.get(DATA, name.encode())
        if record is None:
            raise NotFound
        return await answer_value(request, b"{" + quote(name) + b":", record, b"}")

    @app.route("/set", methods=["POST"])
    async def stage(self, request: Any) -> Response:
        """Stage a value for the next commit."""
        name, value = await self._one_pair(request.content.read())
        key = name.encode()
        staged, stored = await self._stage(key, value, JSON)
        return json_reply(200 if _will_exist(staged, stored) else 201, pair(name, value))

    @app.route("/set", methods=["DELETE"])
    async def stage_deletion(self, request: Any) -> Response:
        """Stage the deletion of a key, whether it exists or not."""
        try:
            text = await in_steps(read_value(request.content.read()))
        except NotJSON as error:
            raise BadRequest(str(error)) from None
        if not text.startswith(b'"'):
            raise BadRequest("a JSON string is expected")
        if text == b'""':
            raise BadRequest("the key is empty")
        if len(text) <= LONGEST_NAME and self._can_be_a_key(name := string(text)):
            await self._stage(name.encode(), b"", DELETION)
        return json_reply(200, text)

    @app.route("/commit", methods=["POST"])
    async def commit(self, request: Any) -> Response:
        """Apply all staged changes in one transaction."""
        staged = self._store.usage(STAGED)
        async with self._gathering.held(staged.size + staged.records * CHANGE_COST):
            while not await self._try_commit():
                if self._delayed is None:
                    await self._commit_without_staging()
                    break
        return NO_CONTENT

    async def _commit_without_staging(self) -> None:
        self._delayed = []
        try:
            while self._staging:
                self._none_staging = Deferred()
                await self._none_staging
            while not await self._try_commit():
                pass
        finally:
            delayed, self._delayed = self._delayed, None
            for waiting in delayed:
                waiting.callback(None)

    async def _try_commit(self) -> bool:
        """Commit all staged changes; False if others were staged or committed while they were gathered."""
        staged, unchanged = await gathered(self._store, STAGED)
        outcome = await self._store.transact([unchanged], await in_steps(_operations(staged)))
        return outcome.committed

    async def _one_pair(self, body: bytes) -> tuple[str, bytes]:
        try:
            found = await in_steps(read_members(body, most=1))
        except TooManyMembers:
            raise BadRequest("exactly one key is expected, not several") from None
        except NotJSON as error:
            raise BadRequest(str(error)) from None
        if not found:
            raise BadRequest("exactly one key is expected, not none")
        [(name, value)] = found
        if not name:
            raise BadRequest("the key is empty")
        if not self._can_be_a_key(name):
            raise BadRequest(f"the key is longer than {self._settings.max_key} bytes, or not Unicode")
        if len(value) > self._settings.max_value:
            raise RequestEntityTooLarge(f"the value is larger than {self._settings.max_value} bytes")
        return name, value

    def _can_be_a_key(self, name: str) -> bool:
        try:
            return len(name.encode()) <= self._settings.max_key
        except UnicodeEncodeError:  # half of a surrogate pair
            return False

    async def _stage(self, key: bytes, value: bytes, media_type: str) -> tuple[Record | None, Record | None]:
        """
        Stage a change; returns the change that was staged for the key before, and the committed record.

        :raises NoRoom: the staged changes would take more than `max_staged`.
        """
        while self._delayed is not None:
            committed: Deferred[None] = Deferred()
            self._delayed.append(committed)
            await committed
        room = Room(STAGED, key, len(value), CHANGE_COST, self._settings.max_staged)
        self._staging += 1
        try:
            outcome = await self._store.transact(
                [room], [Peek(STAGED, key), Peek(DATA, key), Put(STAGED, key, value, media_type)]
            )
        finally:
            self._staging -= 1
            if not self._staging and self._none_staging is not None:
                none_staging, self._none_staging = self._none_staging, None
                none_staging.callback(None)
        if not outcome.committed:
            raise NoRoom(f"more than {self._settings.max_staged} bytes would be staged; commit first")
        return outcome.record(0), outcome.record(1)


def _operations(staged: list[tuple[bytes, Record]]) -> Steps[list[Operation]]:
    """The operations of a commit."""
    # One `Clear` instead of many deletions, which would slow down the next commit.
    operations: list[Operation] = [Clear(STAGED)] if staged else []
    for count, (key, change) in enumerate(staged, 1):
        if change.media_type == DELETION:
            operations.append(Delete(DATA, key))
        else:
            operations.append(Put(DATA, key, change.value, change.media_type))
        if count % STEP == 0:
            yield
    return operations


def _will_exist(staged: Record | None, stored: Record | None) -> bool:
    """Whether a key will exist after the commit."""
    return stored is not None if staged is None else staged.media_type != DELETION


def _status(error: object) -> int | None:
    return 404 if isinstance(error, MethodNotAllowed) else None


answer_errors(Transactional.app, JSON, json_error, _status)
