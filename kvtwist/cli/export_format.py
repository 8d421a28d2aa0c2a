"""
The format of `kvtwist export` and `kvtwist import`: JSON Lines.

The first line is a header, the last one the number of records; every other line is a record. Keys and values that are
UTF-8 are strings; others are base64, in a field whose name ends with `_base64`.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from kvtwist.cli.exits import BadInput
from kvtwist.cli.formatting import put_bytes
from kvtwist.engine.page import MAX_KEY
from kvtwist.model import JSON, OCTETS, Record, Restore
from kvtwist.profiles._json import is_json
from kvtwist.words import counted

VERSION: Final = 1
PROGRESS: Final = "kvtwist.import"
"""The keyspace in which an import keeps its progress. It is never exported."""
BEGINNING: Final = b'{"kvtwist_export":'
"""The first bytes of every export."""
MAX_HEADER: Final = 2**24
MAX_LINE: Final = 2**30
_MAX_NAME = 255
_MAX_MS = 2**48


class Header(msgspec.Struct, forbid_unknown_fields=True):
    """
    :ivar kvtwist_export: version of the format.
    :ivar revision: revision of the store when it was exported.
    :ivar keyspaces: the keyspaces that were asked for, None for all.
    """

    kvtwist_export: int
    revision: int
    keyspaces: list[str] | None = None


class End(msgspec.Struct, forbid_unknown_fields=True):
    """:ivar end: number of records."""

    end: int


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    keyspace: str
    media_type: str
    modified_ms: int
    key: str | UnsetType = UNSET
    key_base64: bytes | UnsetType = UNSET
    value: str | UnsetType = UNSET
    value_base64: bytes | UnsetType = UNSET
    expires_ms: int | None = None


_encode = msgspec.json.Encoder().encode
_decode_header = msgspec.json.Decoder(Header).decode
_decode_end = msgspec.json.Decoder(End).decode
_decode_line = msgspec.json.Decoder(_Line).decode


def header_line(header: Header) -> bytes:
    """The first line."""
    return _encode(header) + b"\n"


def end_line(records: int) -> bytes:
    """The last line."""
    return _encode(End(records)) + b"\n"


def record_line(keyspace: str, key: bytes, record: Record) -> bytes:
    """The line of a record."""
    fields: dict[str, object] = {"keyspace": keyspace}
    put_bytes(fields, "key", key)
    put_bytes(fields, "value", record.value)
    fields["media_type"] = record.media_type
    fields["modified_ms"] = record.modified_ms
    if record.expires_ms is not None:
        fields["expires_ms"] = record.expires_ms
    return _encode(fields) + b"\n"


def read_header(line: bytes) -> Header:
    """:raises BadInput: the line is not the header of an export, or one of another version."""
    try:
        header = _decode_header(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadInput(f"line 1: not the header of a kvtwist export ({error})") from None
    if header.kvtwist_export != VERSION:
        raise BadInput(f"line 1: the format has version {header.kvtwist_export}; this kvtwist reads version {VERSION}")
    return header


def read_end(line: bytes) -> End | None:
    """The last line; None if the line is a record. :raises ValueError: it is malformed."""
    if not line.startswith(b'{"end"'):
        return None
    try:
        return _decode_end(line)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None


def read_record(line: bytes) -> Restore:
    """:raises ValueError: the line is not a valid record; the message says why."""
    try:
        found = _decode_line(line)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None
    key = _bytes("key", found.key, found.key_base64)
    value = _bytes("value", found.value, found.value_base64)
    if len(key) > MAX_KEY:
        raise ValueError(f"the key has {counted(len(key), 'byte')}; at most {MAX_KEY} are allowed")
    if not 0 < len(found.keyspace.encode()) <= _MAX_NAME or found.keyspace == PROGRESS:
        raise ValueError(f"invalid keyspace {found.keyspace!r}")
    if len(found.media_type.encode()) > _MAX_NAME:
        raise ValueError(f"the media type is longer than {_MAX_NAME} bytes")
    for name, ms in (("modified_ms", found.modified_ms), ("expires_ms", found.expires_ms or 0)):
        if not 0 <= ms < _MAX_MS:
            raise ValueError(f"{name} is out of range: {ms}")
    # Profiles copy a value of this type into their answers without parsing it.
    media_type = OCTETS if found.media_type == JSON and not is_json(value) else found.media_type
    return Restore(
        found.keyspace,
        key,
        value,
        media_type,
        modified_ms=found.modified_ms,
        expires_ms=found.expires_ms,
    )


def _bytes(name: str, text: str | UnsetType, octets: bytes | UnsetType) -> bytes:
    if isinstance(text, str):
        if isinstance(octets, bytes):
            raise ValueError(f"it has both {name} and {name}_base64")
        return text.encode()
    if isinstance(octets, bytes):
        return octets
    raise ValueError(f"it has neither {name} nor {name}_base64")
