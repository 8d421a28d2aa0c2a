"""
The lines that `kvtwist export` writes and `kvtwist import` reads: JSON, one object a line.

The first line is a header, the last one says how many records there are; every other line is a record. Bytes are text
where they are UTF-8, and base64 under another name where they are not.
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
"""The keyspace in which an import notes how far it is. It is never exported."""
BEGINNING: Final = b'{"kvtwist_export":'
"""How the first line begins that `kvtwist export` writes."""
MAX_HEADER: Final = 2**24
MAX_LINE: Final = 2**30
_MAX_NAME = 255
_MAX_MS = 2**48


class Header(msgspec.Struct, forbid_unknown_fields=True):
    """
    :ivar kvtwist_export: the version of the format.
    :ivar revision: the last transaction of the store that was exported.
    :ivar keyspaces: which keyspaces were asked for, None for all.
    """

    kvtwist_export: int
    revision: int
    keyspaces: list[str] | None = None


class End(msgspec.Struct, forbid_unknown_fields=True):
    """:ivar end: how many records there are."""

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
    """A line for a record."""
    fields: dict[str, object] = {"keyspace": keyspace}
    put_bytes(fields, "key", key)
    put_bytes(fields, "value", record.value)
    fields["media_type"] = record.media_type
    fields["modified_ms"] = record.modified_ms
    if record.expires_ms is not None:
        fields["expires_ms"] = record.expires_ms
    return _encode(fields) + b"\n"


def read_header(line: bytes) -> Header:
    """:raises BadInput: it is not the first line of an export, or one of another version."""
    try:
        header = _decode_header(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadInput(f"line 1: not the header of a kvtwist export ({error})") from None
    if header.kvtwist_export != VERSION:
        raise BadInput(f"line 1: version {header.kvtwist_export} of the format; this kvtwist reads {VERSION}")
    return header


def read_end(line: bytes) -> End | None:
    """The last line; None if it is another one. :raises ValueError: it cannot be understood."""
    if not line.startswith(b'{"end"'):
        return None
    try:
        return _decode_end(line)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None


def read_record(line: bytes) -> Restore:
    """:raises ValueError: the line is no record; the message says why."""
    try:
        found = _decode_line(line)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None
    key = _bytes("key", found.key, found.key_base64)
    value = _bytes("value", found.value, found.value_base64)
    if len(key) > MAX_KEY:
        raise ValueError(f"the key is {counted(len(key), 'byte')} long, and at most {MAX_KEY} are allowed")
    if not 0 < len(found.keyspace.encode()) <= _MAX_NAME or found.keyspace == PROGRESS:
        raise ValueError(f"there can be no keyspace {found.keyspace!r}")
    if len(found.media_type.encode()) > _MAX_NAME:
        raise ValueError(f"the media type is longer than {_MAX_NAME} bytes")
    for name, ms in (("modified_ms", found.modified_ms), ("expires_ms", found.expires_ms or 0)):
        if not 0 <= ms < _MAX_MS:
            raise ValueError(f"{name} cannot be {ms}")
    # Dialects put what is stored as JSON into their answers as it is.
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
            raise ValueError(f"there are {name} and {name}_base64")
        return text.encode()
    if isinstance(octets, bytes):
        return octets
    raise ValueError(f"there is neither {name} nor {name}_base64")
