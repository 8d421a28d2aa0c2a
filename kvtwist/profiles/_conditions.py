"""
Conditional requests (RFC 9110, 13): preconditions in headers, checked against the record of a key.

A read checks the record that it read. A write reads the record, checks it, and runs its transaction on condition that
the record is unchanged; if it has changed, the write starts over.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Sequence
from typing import Any

from attrs import frozen
from klein import Response
from twisted.web.http import stringToDatetime
from werkzeug.exceptions import BadRequest, PreconditionFailed

from kvtwist.interfaces import IStore
from kvtwist.model import Exists, Operation, Outcome, Record, Unchanged
from kvtwist.validators import Headers, tagged

_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_LIST = rf"[ \t]*(?:,[ \t]*)*{_TAG}[ \t]*(?:,[ \t]*(?:{_TAG}[ \t]*)?)*"
PRECONDITION = rf"^(?:[ \t]*\*[ \t]*|{_LIST})$"
"""A valid `If-Match` or `If-None-Match`, as a regular expression of ECMAScript."""
_is_list = re.compile(_LIST.encode()).fullmatch
_tags = re.compile(_TAG.encode()).findall
ANY = frozenset({b"*"})


@frozen
class Preconditions:
    """
    The preconditions of a request; None for a missing header.

    :ivar match: the opaque parts of the strong tags in `If-Match`, or `ANY`.
    :ivar none_match: the opaque parts of all tags in `If-None-Match`, or `ANY`.
    :ivar unmodified_since: in seconds since the epoch.
    :ivar modified_since: in seconds since the epoch; ignored if there is `none_match`.
    """

    match: frozenset[bytes] | None
    none_match: frozenset[bytes] | None
    unmodified_since: int | None
    modified_since: int | None

    def permit(self, record: Record | None) -> bool:
        """Return whether a write may change a key with that record (13.2.2, steps 1 to 3)."""
        return self.is_meant(record) and (self.none_match is None or not _names(self.none_match, record))

    def is_meant(self, record: Record | None) -> bool:
        """Return whether `If-Match`, or else `If-Unmodified-Since`, holds (13.2.2, steps 1 and 2)."""
        if self.match is not None:
            return _names(self.match, record)
        return self.unmodified_since is None or record is None or _seconds(record) <= self.unmodified_since

    def has_changed(self, record: Record) -> bool:
        """Return whether a read needs the record: the client has another one (13.2.2, steps 3 and 4)."""
        if self.none_match is not None:
            return not _names(self.none_match, record)
        return self.modified_since is None or _seconds(record) > self.modified_since


def answer_record(request: Any, record: Record, headers: Headers) -> Response:
    """
    Answer a GET or HEAD with a record: 200, or 304 if the client has it.

    :raises PreconditionFailed: `If-Match` or `If-Unmodified-Since` does not hold.
    """
    unchanged = not_modified(request, record, headers) if request.conditional else None
    return unchanged or Response(200, tagged(headers, record.revision, record.modified_ms), record.value)


def not_modified(request: Any, record: Record, headers: Headers) -> Response | None:
    """
    The 304 of a GET or HEAD whose client has the record; None if the record is to be sent.

    :raises PreconditionFailed: `If-Match` or `If-Unmodified-Since` does not hold.
    """
    asked = preconditions(request)
    if asked is None:
        return None
    if not asked.is_meant(record):
        raise PreconditionFailed
    return None if asked.has_changed(record) else Response(304, tagged(headers, record.revision, record.modified_ms))


def preconditions(request: Any) -> Preconditions | None:
    """
    Return the preconditions of a request; None if it has none, like most requests.

    :raises BadRequest: a header is not a list of entity tags.
    """
    if not request.conditional:
        return None
    return Preconditions(
        _read_tags(request.getHeader(b"if-match"), strong=True),
        _read_tags(request.getHeader(b"if-none-match"), strong=False),
        _read_date(request.getHeader(b"if-unmodified-since")),
        _read_date(request.getHeader(b"if-modified-since")),
    )


def transact_if(
    asked: Preconditions | None,
    store: IStore,
    keyspace: str,
    key: bytes,
    operations: Sequence[Operation],
    exists: bool = False,
) -> Awaitable[Outcome]:
    """
    Run operations if a request's preconditions hold for a key.

    :param exists: whether the key has to exist as well. If it does not, the outcome is not committed, and the
        preconditions are not checked (RFC 9110, 13.2.1).
    :raises PreconditionFailed: a precondition does not hold.
    """
    if asked is not None:
        return _transact_if(asked, store, keyspace, key, operations, exists)
    return store.transact([Exists(keyspace, key)] if exists else [], operations)  # no coroutine: this is most requests


async def _transact_if(
    asked: Preconditions, store: IStore, keyspace: str, key: bytes, operations: Sequence[Operation], exists: bool
) -> Outcome:
    while True:
        record = await store.get(keyspace, key)
        if exists and record is None:
            return Outcome(False)
        if not asked.permit(record):
            raise PreconditionFailed
        revision = 0 if record is None else record.revision
        outcome = await store.transact([Unchanged(keyspace, key, revision)], operations)
        if outcome.committed:
            return outcome


def _names(tags: frozenset[bytes], record: Record | None) -> bool:
    return record is not None and (tags is ANY or b"%d" % record.revision in tags)


def _seconds(record: Record) -> int:
    return record.modified_ms // 1000


def _read_tags(value: bytes | None, strong: bool) -> frozenset[bytes] | None:
    if value is None:
        return None
    if value.strip(b" \t") == b"*":
        return ANY
    if not _is_list(value):
        raise BadRequest("not a list of entity tags")
    return frozenset(tag.partition(b'"')[2][:-1] for tag in _tags(value) if not (strong and tag.startswith(b"W/")))


def _read_date(value: bytes | None) -> int | None:
    """None also for an invalid date, which RFC 9110 says to ignore."""
    try:
        return None if value is None else stringToDatetime(value.strip(b" \t"))
    except (ValueError, LookupError):
        return None
