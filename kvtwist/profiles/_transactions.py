"""The JSON of `POST /v1/txn`: conditions, two branches of operations, and their results."""

from __future__ import annotations

import re
from base64 import b64decode
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from attrs import frozen
from msgspec import UNSET, UnsetType
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge

from kvtwist.model import (
    DATA,
    JSON,
    OCTETS,
    TEXT,
    Condition,
    Delete,
    Exists,
    Get,
    Operation,
    Outcome,
    Peek,
    Put,
    Range,
    Record,
    Slice,
    Unchanged,
)
from kvtwist.profiles._items import after_prefix, elements, item, named
from kvtwist.profiles._json import NotJSON, TooManyMembers, quote, read_arrays, read_value
from kvtwist.profiles._listing import Element
from kvtwist.profiles._settings import Settings
from kvtwist.profiles._steps import STEP, Steps

MAX_RANGES = 16
"""How many ranges a branch may have: each result may take a mebibyte."""
DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
MAX_REVISION = 10**15 - 1
"""Of what a request names; no store gets so far."""
MAX_TTL_SECONDS = 315_360_000
_TOKEN = "[!#$%&'*+.^_`|~0-9A-Za-z-]+"
MEDIA_TYPE = rf"^{_TOKEN}/{_TOKEN}(?:[ \t]*;[ \t!-~]*)?$"
"""A media type (RFC 9110, 8.3.1), also as a regular expression of ECMAScript."""
_is_media_type = re.compile(MEDIA_TYPE).fullmatch
_SPAN = 64 * 1024
"""How many bytes make a step; base64 needs a multiple of four."""
T = TypeVar("T")


class _Strict(msgspec.Struct, forbid_unknown_fields=True):
    """A member may be left out, but is never null: that may be a value."""


class _Condition(_Strict):
    key: str
    revision: Annotated[int, msgspec.Meta(ge=0, le=MAX_REVISION)] | UnsetType = UNSET
    exists: bool | UnsetType = UNSET


class _Put(_Strict):
    key: str
    value: str | UnsetType = UNSET
    value_base64: str | UnsetType = UNSET
    json: msgspec.Raw = msgspec.Raw()
    content_type: str | UnsetType = UNSET
    ttl: int | UnsetType = UNSET


class _Key(_Strict):
    key: str


class _Range(_Strict):
    prefix: str = ""
    after: str | UnsetType = UNSET
    before: str | UnsetType = UNSET
    limit: int = DEFAULT_LIMIT
    reverse: bool = False
    keys_only: bool = False


class Step(_Strict):
    """An operation: exactly one of the four."""

    put: _Put | UnsetType = UNSET
    delete: _Key | UnsetType = UNSET
    get: _Key | UnsetType = UNSET
    range: _Range | UnsetType = UNSET


@frozen
class Branch:
    """
    One of the two branches of a transaction.

    :ivar steps: as the request has them.
    :ivar operations: of the store; two for a deletion, whose result says whether the key existed.
    """

    steps: list[Step]
    operations: list[Operation]

    @property
    def has_ranges(self) -> bool:
        return any(step.range is not UNSET for step in self.steps)


Parsed = tuple[list[Condition], Branch, Branch]
"""The conditions, what is done if they hold, and what is done otherwise."""


class Reader:
    """Reads the bodies of requests, in steps: a body may have as many operations as its size allows."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def read(self, body: bytes) -> Steps[Parsed]:
        """
        :raises BadRequest: the body is not a transaction; the message says where.
        :raises RequestEntityTooLarge: it has too many conditions and operations, or a value is too large.
        """
        most = self._settings.max_operations
        try:
            arrays = yield from read_arrays(body, most)
        except TooManyMembers:
            raise RequestEntityTooLarge(f"more than {most} conditions and operations in one request") from None
        except NotJSON as error:
            raise BadRequest(str(error)) from None
        unknown = arrays.keys() - {"if", "then", "else"}
        if unknown:
            raise BadRequest(f"unknown member {min(unknown)!a}")
        conditions: list[Condition] = []
        for asked in (yield from _decoded("if", arrays.get("if", []), _Condition)):
            conditions.append(self._condition(asked))
        then = yield from self._branch("then", arrays)
        otherwise = yield from self._branch("else", arrays)
        return conditions, then, otherwise

    def key(self, name: str) -> bytes:
        """:raises BadRequest: the name is not a valid key."""
        key = _encoded(name)
        if not key:
            raise BadRequest("a key is empty")
        if len(key) > self._settings.max_key:
            raise BadRequest(f"a key is longer than {self._settings.max_key} bytes")
        return key

    def _condition(self, asked: _Condition) -> Condition:
        key = self.key(asked.key)
        if (asked.revision is UNSET) == (asked.exists is UNSET):
            raise BadRequest("a condition has one of revision and exists")
        return Exists(DATA, key) if asked.exists else Unchanged(DATA, key, asked.revision or 0)

    def _branch(self, name: str, arrays: dict[str, list[bytes]]) -> Steps[Branch]:
        steps = yield from _decoded(name, arrays.get(name, []), Step)
        operations: list[Operation] = []
        writes = False
        ranges = 0
        for count, step in enumerate(steps, 1):
            if (step.put, step.delete, step.get, step.range).count(UNSET) != 3:
                raise BadRequest("an operation has one of put, delete, get and range")
            if step.range is not UNSET:
                ranges += 1
                if writes:
                    raise BadRequest("a range comes before the writes: it shows the store as it was")
                if ranges > MAX_RANGES:
                    raise BadRequest(f"more than {MAX_RANGES} ranges in one branch")
                operations.append(self._range(step.range))
            elif step.get is not UNSET:
                operations.append(Get(DATA, self.key(step.get.key)))
            elif step.delete is not UNSET:
                writes = True
                key = self.key(step.delete.key)
                operations += Peek(DATA, key), Delete(DATA, key)
            elif step.put is not UNSET:
                writes = True
                operations.append((yield from self._put(step.put)))
            if count % STEP == 0:
                yield
        return Branch(steps, operations)

    def _put(self, asked: _Put) -> Steps[Put]:
        text = bytes(asked.json)
        if (asked.value is not UNSET) + (asked.value_base64 is not UNSET) + bool(text) != 1:
            raise BadRequest("a put has one of value, value_base64 and json")
        if text:
            value, default = text, JSON
        elif asked.value_base64 is not UNSET:
            value, default = (yield from _unbased(asked.value_base64)), OCTETS
        else:
            value, default = _encoded(asked.value or ""), TEXT
        if len(value) > self._settings.max_value:
            raise RequestEntityTooLarge(f"a value is larger than {self._settings.max_value} bytes")
        media_type = default if asked.content_type is UNSET else checked_type(asked.content_type)
        if text and media_type != JSON:
            raise BadRequest("the content_type of json is application/json")
        if media_type == JSON and not text:
            try:
                yield from read_value(value)
            except NotJSON:
                raise BadRequest("a value is not the JSON that its content_type says") from None
        ttl_ms = None
        if asked.ttl is not UNSET:
            if not 1 <= asked.ttl <= MAX_TTL_SECONDS:
                raise BadRequest(f"a ttl is 1 to {MAX_TTL_SECONDS} seconds")
            ttl_ms = asked.ttl * 1000
        return Put(DATA, self.key(asked.key), value, media_type, ttl_ms)

    def _range(self, asked: _Range) -> Range:
        if not 1 <= asked.limit <= MAX_LIMIT:
            raise BadRequest(f"a limit is 1 to {MAX_LIMIT}")
        after = None if asked.after is UNSET else asked.after
        before = None if asked.before is UNSET else asked.before
        return range_of(asked.prefix, after, before, asked.limit, asked.reverse)


def range_of(prefix: str, after: str | None, before: str | None, limit: int, reverse: bool) -> Range:
    """The keys with a prefix, between two others. "After" and "before" refer to the order of the listing."""
    start = _encoded(prefix)
    stop = after_prefix(start)
    low, high = (before, after) if reverse else (after, before)
    if low is not None:
        start = max(start, _encoded(low) + b"\0")
    if high is not None:
        stop = _encoded(high) if stop is None else min(stop, _encoded(high))
    return Range(DATA, start, stop, limit, reverse)


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        raise BadRequest("a string is not Unicode") from None


def _decoded(name: str, texts: list[bytes], kind: type[T]) -> Steps[list[T]]:
    """The elements of an array. Each text is set to nothing once it is decoded: its values are copies."""
    decode = msgspec.json.Decoder(kind).decode
    found: list[T] = []
    size = 0
    for at, text in enumerate(texts):
        try:
            found.append(decode(text))
        except msgspec.ValidationError as error:
            raise BadRequest(f"{name}[{at}]: {error}") from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise BadRequest(f"{name}[{at}]: a string is not Unicode") from None
        except RecursionError:
            raise BadRequest(f"{name}[{at}]: nested too deeply") from None
        size += len(text)
        texts[at] = b""
        if at % STEP == STEP - 1 or size > _SPAN:
            size = 0
            yield
    return found


def results(outcome: Outcome, steps: Sequence[Step]) -> Iterator[Element]:
    """The JSON of each step's result."""
    found = iter(outcome.results)
    for step in steps:
        result = next(found)
        if step.range is not UNSET:
            assert isinstance(result, Slice)
            yield _slice(result, step.range.keys_only)
        elif step.get is not UNSET:
            yield (b"null", b"", b"") if result is None else item(step.get.key, _record(result))
        elif step.delete is not UNSET:
            next(found)
            yield b'{"deleted":' + (b"false" if result is None else b"true") + b"}", b"", b""
        else:
            yield b'{"revision":%d}' % outcome.revision, b"", b""


def _slice(found: Slice, keys_only: bool) -> Element:
    """A page of a range."""
    names = [name for name, _ in named(deque(found.items))]
    following = b"null" if found.resume is None or not names else quote(names[-1])

    def items() -> Iterator[bytes]:
        for count, (before, text, after) in enumerate(elements(deque(found.items), keys_only)):
            yield b"," + before if count else before
            yield from (text,) if isinstance(text, bytes) else text
            yield after

    return b'{"items":[', items(), b'],"next":' + following + b"}"


def _record(result: Any) -> Record:
    assert isinstance(result, Record)
    return result


def _unbased(text: str) -> Steps[bytes]:
    pieces: list[bytes] = []
    try:
        data = text.encode("ascii")
        if 0 <= data.find(b"=") < len(data) - 2:
            raise ValueError  # b64decode would end a piece there
        for at in range(0, len(data), _SPAN):
            pieces.append(b64decode(data[at : at + _SPAN], validate=True))
            yield
    except ValueError:
        raise BadRequest("a value_base64 is not base64") from None
    return b"".join(pieces)


def checked_type(media_type: str) -> str:
    """:raises BadRequest: it is not a media type."""
    if len(media_type) > 255 or not _is_media_type(media_type):
        raise BadRequest("not a media type")
    return media_type
