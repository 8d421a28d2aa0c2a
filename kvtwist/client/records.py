"""Values and records as a caller sees them, and how they travel: as bytes, or within JSON."""

from __future__ import annotations

from base64 import b64encode
from typing import Any, Final, TypeVar

import msgspec
from attrs import frozen

from kvtwist.client.errors import Invalid, Unexpected

JSON: Final = "application/json"
TEXT: Final = "text/plain"
OCTETS: Final = "application/octet-stream"
T = TypeVar("T")


@frozen
class Json:
    """A value to be stored as JSON: anything that msgspec can encode."""

    value: Any


Value = bytes | str | Json
"""What can be stored: bytes, text (as UTF-8), or JSON."""


@frozen
class Record:
    """
    A key with its value.

    :ivar value: empty if the record is from a listing without values.
    :ivar revision: the transaction that wrote it.
    :ivar modified_ms: the time of that transaction, in milliseconds since the epoch; `get` knows it to the second.
    :ivar expires_ms: when it stops to exist, likewise; None for never.
    """

    key: str
    value: bytes
    content_type: str
    revision: int
    modified_ms: int
    expires_ms: int | None = None

    @property
    def text(self) -> str:
        """The value as text. Raises `UnicodeDecodeError` if it is not UTF-8."""
        return self.value.decode()

    def json(self) -> Any:
        """The value, decoded from JSON. Raises `msgspec.DecodeError` if it is not JSON."""
        return msgspec.json.decode(self.value)


@frozen
class Page:
    """
    A part of a listing, of one moment.

    :ivar revision: the last transaction that it shows.
    :ivar following: the `after` of the next page; None at the end.
    """

    revision: int
    records: list[Record]
    following: str | None


class Item(msgspec.Struct):
    """A record in the server's JSON. `value` is kept as it was sent, so that a value which is JSON stays the same."""

    key: str
    content_type: str
    revision: int
    modified: int
    value: msgspec.Raw = msgspec.Raw()
    value_base64: bytes | None = None
    expires: int | None = None

    def record(self) -> Record:
        """The record."""
        value = bytes(self.value)
        if self.value_base64 is not None:
            value = self.value_base64
        elif value and self.content_type != JSON:
            value = msgspec.json.decode(value, type=str).encode()
        return Record(self.key, value, self.content_type, self.revision, self.modified, self.expires)


def body_of(value: Value, content_type: str | None) -> tuple[bytes, str]:
    """The bytes to store, and their media type; :param content_type: by the caller, who may know better."""
    if isinstance(value, Json):
        return msgspec.json.encode(value.value), content_type or JSON
    if isinstance(value, str):
        return utf8(value), content_type or TEXT
    return value, content_type or OCTETS


def put_of(key: str, value: Value, content_type: str | None, ttl: int | None) -> dict[str, Any]:
    """A put operation of a transaction."""
    utf8(key)
    put: dict[str, Any] = {"key": key}
    body, media_type = body_of(value, content_type)
    if isinstance(value, str):
        put["value"] = value
    elif isinstance(value, Json) and media_type == JSON:
        put["json"] = msgspec.Raw(body)
    else:
        put["value_base64"] = b64encode(body).decode()
    if "json" not in put:
        put["content_type"] = media_type
    if ttl is not None:
        put["ttl"] = ttl
    return put


def utf8(text: str) -> bytes:
    """:raises Invalid: the text has half of a surrogate pair."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise Invalid("a key or a text is not Unicode") from None


def decoded(body: bytes, kind: type[T]) -> T:
    """:raises Unexpected: the JSON of an answer is not what it should be."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unexpected(f"the server's JSON is not that of the native API: {error}") from None
