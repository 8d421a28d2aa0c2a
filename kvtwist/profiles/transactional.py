"""
`transactional`: changes are staged with POST and DELETE /set, and POST /commit makes them happen all at once.

    GET    /<key>     200 {"key":value}                 404 when there is no such key
    POST   /set       201 new key, 200 known key; the body is {"key":value}, and comes back
    DELETE /set       200; the body is "key", and comes back
    POST   /commit    204

Everything else is 404. Every body is JSON. What is staged lies in a keyspace of its own, the last change of each key,
and is as durable as the data. Spec 000.
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
"""Media type of a staged change that removes its key."""
CHANGE_COST = 1000
"""Memory that a staged change takes beside its key and value, at the commit at the latest; measured, rounded up."""


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
        self._held: list[Deferred[None]] | None = None
        """Who wants to stage while a commit that was overtaken tries again."""
        self._gathering = Permits(settings.max_staged)
        """For bytes that commits gather: all of them together may have no more in memory than may be staged."""
        self._staging = 0
        """How many are staging something right now."""
        self._quiet: Deferred[None] | None = None
        """Fires when nobody is."""
        # The largest value, under the largest key with each byte written as \u00XX, and some white space.
        self.max_body = settings.max_value + 6 * settings.max_key + 1024

    @app.route("/<key>", methods=["GET"])
    async def get(self, request: Any, key: str) -> Response | None:
        """What the last commit left under a key."""
        if request.method != b"GET":
            raise NotFound  # werkzeug lets HEAD in wherever it lets GET in
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
        """Queue one pair for the next commit."""
        name, value = await self._one_pair(request.content.read())
        key = name.encode()
        staged, stored = await self._stage(key, value, JSON)
        return json_reply(200 if _will_exist(staged, stored) else 201, pair(name, value))

    @app.route("/set", methods=["DELETE"])
    async def stage_deletion(self, request: Any) -> Response:
        """Queue the deletion of a key, be it there or not, for the next commit."""
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
        """Make all that is queued happen, at one instant."""
        staged = self._store.usage(STAGED)
        async with self._gathering.held(staged.size + staged.records * CHANGE_COST):
            while not await self._commit_unless_overtaken():
                if self._held is None:
                    await self._commit_while_nobody_stages()
                    break
        return NO_CONTENT

    async def _commit_while_nobody_stages(self) -> None:
        self._held = []
        try:
            while self._staging:
                self._quiet = Deferred()
                await self._quiet
            while not await self._commit_unless_overtaken():
                pass
        finally:
            held, self._held = self._held, None
            for waiting in held:
                waiting.callback(None)

    async def _commit_unless_overtaken(self) -> bool:
        """Commit all that is staged, unless somebody staged or committed something while it was gathered."""
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
        Stage a change; returns what was staged for the key before, and what is stored under it.

        :raises NoRoom: with it, more would wait for the commit than may.
        """
        while self._held is not None:
            through: Deferred[None] = Deferred()
            self._held.append(through)
            await through
        room = Room(STAGED, key, len(value), CHANGE_COST, self._settings.max_staged)
        self._staging += 1
        try:
            outcome = await self._store.transact(
                [room], [Peek(STAGED, key), Peek(DATA, key), Put(STAGED, key, value, media_type)]
            )
        finally:
            self._staging -= 1
            if not self._staging and self._quiet is not None:
                quiet, self._quiet = self._quiet, None
                quiet.callback(None)
        if not outcome.committed:
            raise NoRoom(f"more than {self._settings.max_staged} bytes would be staged; commit first")
        return outcome.results[0], outcome.results[1]


def _operations(staged: list[tuple[bytes, Record]]) -> Steps[list[Operation]]:
    """What a commit does."""
    # One `Clear`, not a deletion for each: those would be in the way of the next commit.
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
    """Whether a key exists after all that is staged."""
    return stored is not None if staged is None else staged.media_type != DELETION


def _status(error: object) -> int | None:
    return 404 if isinstance(error, MethodNotAllowed) else None


answer_errors(Transactional.app, JSON, json_error, _status)
