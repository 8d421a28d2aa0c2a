"""
JSON that comes back exactly as it was sent.

A parser that builds objects loses what a client wrote: `1.0`, `1e400`, forty digits, `"\\u00e9"`, a member name that is
there twice. This one only finds out where values begin and end, by RFC 8259 to the letter, in one pass and without
recursion, so that no depth of nesting is too much; the text itself is kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import msgspec
from twisted.internet.threads import deferToThread

T = TypeVar("T")

_SPACE = rb"[ \t\n\r]*"
_NUMBER = rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
_PLAIN = rb'[^"\\\x00-\x1f]*'
_SCALAR = rb'(?:%b|true|false|null|"%b")' % (_NUMBER, _PLAIN)
_space_run = re.compile(_SPACE)
# Runs of scalars are taken at once, for speed. The bound keeps the regular expression's own memory small.
_scalar_run = re.compile(rb"(?:%b%b,%b){0,500}" % (_SCALAR, _SPACE, _SPACE))
_scalar = re.compile(rb"(?:%b|true|false|null)" % _NUMBER).match
_member_run = re.compile(rb'(?:"%b"%b:%b%b%b,%b){0,500}' % (_PLAIN, _SPACE, _SPACE, _SCALAR, _SPACE, _SPACE))
_plain_run = re.compile(_PLAIN)
_escapes = re.compile(rb'(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})%b){1,500}' % _PLAIN).match
_colon = re.compile(rb"%b:%b" % (_SPACE, _SPACE)).match

_LARGE = 64 * 1024


class NotJSON(ValueError):
    """The text is not the JSON that was asked for; the message says where or why."""


def members(text: bytes) -> list[tuple[str, bytes]]:
    """
    The members of an object in the order in which they stand, repeated names included: (name, text of the value).

    :raises NotJSON: it is not an object.
    """
    _check_utf8(text)
    at = _space(text, 0)
    if text[at : at + 1] != b"{":
        _value_only(text, at)
        raise NotJSON("a JSON object is expected")
    found: list[tuple[str, bytes]] = []
    at = _space(text, at + 1)
    if text[at : at + 1] == b"}":
        at += 1
    else:
        while True:
            colon = _string(text, at)
            name = json.loads(text[at:colon])
            at = _after_colon(text, colon)
            end = _value(text, at)
            found.append((name, text[at:end]))
            at = _space(text, end)
            if text[at : at + 1] == b"}":
                at += 1
                break
            if text[at : at + 1] != b",":
                raise _unexpected(text, at)
            at = _space(text, at + 1)
    _end(text, at)
    return found


def value(text: bytes) -> bytes:
    """
    The text of the one value that a JSON text holds, without white space around it.

    :raises NotJSON: it is not JSON.
    """
    _check_utf8(text)
    return _value_only(text, _space(text, 0))


def is_json(text: bytes) -> bool:
    """Whether a text is JSON."""
    with suppress(UnicodeDecodeError, msgspec.MsgspecError, RecursionError):
        text.decode()
        msgspec.json.decode(text, type=msgspec.Raw)
        return True
    try:  # which takes thirty times as long, but can do half surrogates, and any depth
        value(text)
    except NotJSON:
        return False
    return True


def string(text: bytes) -> str:
    """:raises NotJSON: the text is not a JSON string."""
    only = value(text)
    if not only.startswith(b'"'):
        raise NotJSON("a JSON string is expected")
    decoded: str = json.loads(only)
    return decoded


def quote(text: str) -> bytes:
    """A JSON string, in UTF-8. The text must be valid Unicode."""
    return msgspec.json.encode(text)


async def parsed(parse: Callable[[bytes], T], text: bytes) -> T:
    """What one of the functions here makes of a text; a large one is read in a thread."""
    return parse(text) if len(text) < _LARGE else await deferToThread(parse, text)


def _check_utf8(text: bytes) -> None:
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise NotJSON(f"byte {error.start} is not UTF-8") from None


def _value_only(text: bytes, at: int) -> bytes:
    end = _value(text, at)
    _end(text, _space(text, end))
    return text[at:end]


def _value(text: bytes, at: int) -> int:
    """Where the value that begins at `at` ends."""
    closers = bytearray()  # the brackets that are open, innermost last
    while True:
        # A value begins here.
        first = text[at : at + 1]
        if first == b"[":
            at = _space(text, at + 1)
            if text[at : at + 1] != b"]":
                closers += b"]"
                at = _skip(_scalar_run, text, at)
                continue
            at += 1
        elif first == b"{":
            at = _space(text, at + 1)
            if text[at : at + 1] != b"}":
                closers += b"}"
                at = _name(text, at)
                continue
            at += 1
        elif first == b'"':
            at = _string(text, at)
        else:
            scalar = _scalar(text, at)
            if scalar is None:
                raise _unexpected(text, at)
            at = scalar.end()
        # A value ended here: go on behind all that ends with it.
        while closers:
            at = _space(text, at)
            following = text[at : at + 1]
            if following == b",":
                at = _space(text, at + 1)
                at = _skip(_scalar_run, text, at) if closers[-1:] == b"]" else _name(text, at)
                break
            if following != closers[-1:]:
                raise _unexpected(text, at)
            del closers[-1]
            at += 1
        else:
            return at


def _name(text: bytes, at: int) -> int:
    """Where the value of a member begins, some members with plain values skipped."""
    at = _skip(_member_run, text, at)
    return _after_colon(text, _string(text, at))


def _after_colon(text: bytes, at: int) -> int:
    colon = _colon(text, at)
    if colon is None:
        raise _unexpected(text, at)
    return colon.end()


def _string(text: bytes, at: int) -> int:
    """Where the string that begins at `at` ends."""
    if text[at : at + 1] != b'"':
        raise _unexpected(text, at)
    at = _skip(_plain_run, text, at + 1)
    while text[at : at + 1] == b"\\":
        escapes = _escapes(text, at)
        if escapes is None:
            raise _unexpected(text, at)
        at = escapes.end()
    if text[at : at + 1] != b'"':
        raise _unexpected(text, at)
    return at + 1


def _space(text: bytes, at: int) -> int:
    return _skip(_space_run, text, at)


def _skip(run: re.Pattern[bytes], text: bytes, at: int) -> int:
    """Where a run that may be empty ends."""
    found = run.match(text, at)
    assert found is not None
    return found.end()


def _end(text: bytes, at: int) -> None:
    at = _space(text, at)
    if at < len(text):
        raise _unexpected(text, at)


def _unexpected(text: bytes, at: int) -> NotJSON:
    if at >= len(text):
        return NotJSON("the JSON text ends too early")
    return NotJSON(f"not JSON at byte {at}")
