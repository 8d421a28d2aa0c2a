"""
JSON that comes back exactly as it was sent.

A parser that builds objects loses the text of `1.0`, `1e400`, a number of forty digits, `"\\u00e9"`, and repeated
member names. This one only finds where values begin and end, and keeps the text. It follows RFC 8259 to the letter, in
one pass and without recursion, so that it accepts any depth of nesting.

It works in steps. A regular expression holds the interpreter while it matches, so each one is limited to a window of
the text; longer strings, numbers and white space are matched window by window.
"""

from __future__ import annotations

import json
import re
import sys
from codecs import utf_8_decode
from collections.abc import Callable
from contextlib import suppress

import msgspec

from kvtwist.profiles._steps import STEP, Steps, at_once

_WINDOW = 16 * 1024
_SPAN = 64 * 1024
"""How many bytes are read in a step."""
LONGEST_NAME = 6 * 2**15 + 2
"""The length of the longest possible key in JSON: in quotes, with each byte written as \\u00XX."""

_SPACE = rb"[ \t\n\r]*"
_NUMBER = rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
_PLAIN = rb'[^"\\\x00-\x1f]*'
_SCALAR = rb'(?:%b|true|false|null|"%b")' % (_NUMBER, _PLAIN)
_space_run = re.compile(_SPACE).match
_digit_run = re.compile(rb"[0-9]*").match
_plain_run = re.compile(_PLAIN).match
# Runs of scalars are matched at once, for speed.
_scalar_run = re.compile(rb"(?:%b%b,%b){0,500}" % (_SCALAR, _SPACE, _SPACE)).match
_member_run = re.compile(rb'(?:"%b"%b:%b%b%b,%b){0,500}' % (_PLAIN, _SPACE, _SPACE, _SCALAR, _SPACE, _SPACE)).match
# Most values are scalars, or contain only scalars.
_MEMBER = rb'"%b"%b:%b%b%b' % (_PLAIN, _SPACE, _SPACE, _SCALAR, _SPACE)
_EASY = rb"(?:%b|\[%b(?:%b%b(?:,%b%b%b){0,99})?\]|\{%b(?:%b(?:,%b%b){0,99})?\})" % (
    *(_SCALAR, _SPACE, _SCALAR, _SPACE, _SPACE, _SCALAR, _SPACE),
    *(_SPACE, _MEMBER, _SPACE, _MEMBER),
)
_easy = re.compile(_EASY).match
_easy_member = re.compile(rb'"(%b)"%b:%b(%b)%b([,}])' % (_PLAIN, _SPACE, _SPACE, _EASY, _SPACE)).match
_easy_string = re.compile(rb'"%b"' % _PLAIN).match
_number = re.compile(_NUMBER).match
_escapes = re.compile(rb'(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})%b){1,500}' % _PLAIN).match
_fraction = re.compile(rb"\.[0-9]").match
_exponent = re.compile(rb"[eE][+-]?[0-9]").match


class NotJSON(ValueError):
    """The text is not JSON, or not of the expected type; the message says where or why."""


class TooManyMembers(ValueError):
    """The object has more members than allowed."""


def read_members(text: bytes, most: int = sys.maxsize) -> Steps[list[tuple[str, bytes]]]:
    """
    The members of an object in their order, with repeated names: (name, text of the value).

    :param most: how many members are allowed.
    :raises NotJSON: the text is not an object.
    :raises TooManyMembers: the object has more members.
    """
    yield from _utf8(text)
    at = yield from _space(text, 0)
    if text[at : at + 1] != b"{":
        end = yield from _value(text, at)
        yield from _end(text, end)
        raise NotJSON("a JSON object is expected")
    found: list[tuple[str, bytes]] = []
    mark = at
    at = yield from _space(text, at + 1)
    following = text[at : at + 1]
    if following == b"}":
        at += 1
    while following != b"}":
        if len(found) == most:
            raise TooManyMembers(f"there are more than {most} members")
        member = _easy_member(text, at, at + _WINDOW)
        if member is not None:
            found.append((member[1].decode(), member[2]))
            following = member[3]
            at = member.end()
        else:
            colon = yield from _string(text, at)
            if colon - at > LONGEST_NAME:
                raise NotJSON("the name of a member is too long")
            name = json.loads(text[at:colon])
            at = yield from _space(text, colon)
            if text[at : at + 1] != b":":
                raise _unexpected(text, at)
            at = yield from _space(text, at + 1)
            end = yield from _value(text, at)
            found.append((name, text[at:end]))
            at = yield from _space(text, end)
            following = text[at : at + 1]
            if following not in (b",", b"}"):
                raise _unexpected(text, at)
            at += 1
        if following == b",":
            at = yield from _space(text, at)
        if len(found) % STEP == 0 or at - mark > _SPAN:
            mark = at
            yield
    yield from _end(text, at)
    return found


def read_arrays(text: bytes, most: int) -> Steps[dict[str, list[bytes]]]:
    """
    The members of an object of arrays, each as the texts of its elements.

    :param most: how many elements there may be, in all arrays together.
    :raises NotJSON: it is not an object of arrays, or has a member twice.
    :raises TooManyMembers: it has more elements. What follows them is not looked at.
    """
    yield from _utf8(text)
    at = yield from _space(text, 0)
    if text[at : at + 1] != b"{":
        raise NotJSON("a JSON object is expected")
    found: dict[str, list[bytes]] = {}
    at = yield from _space(text, at + 1)
    while not (text[at : at + 1] == b"}" and not found):
        colon = yield from _string(text, at)
        if colon - at > LONGEST_NAME:
            raise NotJSON("the name of a member is too long")
        name = json.loads(text[at:colon])
        if name in found:
            raise NotJSON(f"{name!a} is given twice")
        at = yield from _space(text, colon)
        if text[at : at + 1] != b":":
            raise _unexpected(text, at)
        at = yield from _space(text, at + 1)
        if text[at : at + 1] != b"[":
            raise NotJSON(f"{name!a} is not an array")
        elements = found[name] = []
        at = yield from _elements(text, at + 1, elements, most)
        most -= len(elements)
        at = yield from _space(text, at)
        if text[at : at + 1] != b",":
            break
        at = yield from _space(text, at + 1)
    if text[at : at + 1] != b"}":
        raise _unexpected(text, at)
    yield from _end(text, at + 1)
    return found


def _elements(text: bytes, at: int, elements: list[bytes], most: int) -> Steps[int]:
    """Add the texts of the elements of an array; returns where it ends."""
    mark = at
    at = yield from _space(text, at)
    if text[at : at + 1] == b"]":
        return at + 1
    while True:
        if len(elements) == most:
            raise TooManyMembers(f"there are more than {most} elements")
        end = _easy_end(text, at) or (yield from _value(text, at))
        elements.append(text[at:end])
        at = yield from _space(text, end)
        following = text[at : at + 1]
        if following == b"]":
            return at + 1
        if following != b",":
            raise _unexpected(text, at)
        at = yield from _space(text, at + 1)
        if len(elements) % STEP == 0 or at - mark > _SPAN:
            mark = at
            yield


def read_value(text: bytes) -> Steps[bytes]:
    """
    The text of a JSON value, without the white space around it.

    :raises NotJSON: the text is not JSON.
    """
    yield from _utf8(text)
    at = yield from _space(text, 0)
    end = _easy_end(text, at) or (yield from _value(text, at))
    yield from _end(text, end)
    return text[at:end]


def value(text: bytes) -> bytes:
    """`read_value` for a short text, at once."""
    return at_once(read_value(text))


def is_json(text: bytes) -> bool:
    """Whether a text is JSON."""
    with suppress(UnicodeDecodeError, msgspec.MsgspecError, RecursionError):
        text.decode()
        msgspec.json.decode(text, type=msgspec.Raw)
        return True
    try:  # takes thirty times as long, but accepts half surrogates and any depth
        value(text)
    except NotJSON:
        return False
    return True


def string(text: bytes) -> str:
    """
    Decode a short JSON string.

    :raises NotJSON: the text is not a JSON string.
    """
    only = value(text)
    if not only.startswith(b'"'):
        raise NotJSON("a JSON string is expected")
    decoded: str = json.loads(only)
    return decoded


def quote(text: str) -> bytes:
    """Encode a JSON string, in UTF-8. The text must be valid Unicode."""
    return msgspec.json.encode(text)


def is_utf8(text: bytes) -> bool:
    """Whether a text is UTF-8, without decoding it as a whole."""
    try:
        at_once(_utf8(text))
    except NotJSON:
        return False
    return True


def _utf8(text: bytes) -> Steps[None]:
    view = memoryview(text)
    at = 0
    while at < len(text):
        try:
            _, size = utf_8_decode(view[at : at + _SPAN], "strict", at + _SPAN >= len(text))
        except UnicodeDecodeError as error:
            raise NotJSON(f"byte {at + error.start} is not UTF-8") from None
        at += size
        if at < len(text):
            yield


_VALUE, _FIRST_VALUE, _NAME, _FIRST_NAME, _COLON, _AFTER = range(6)
"""What is expected next: a value; a value or the end of the array; a name; a name or the end of the object; the colon
after a name; a comma or a closing bracket after a value."""


def _value(text: bytes, at: int) -> Steps[int]:
    """The end of the value that begins at `at`."""
    closers = bytearray()  # of the open brackets, innermost last
    state = _VALUE
    steps, mark = 0, at
    while True:
        steps += 1
        if steps == STEP or at - mark > _SPAN:
            steps, mark = 0, at
            yield
        if text[at : at + 1] in _SPACES:
            at = yield from _space(text, at)
        first = text[at : at + 1]
        if state == _AFTER:
            if first == b",":
                at += 1
                state = _VALUE if closers[-1:] == b"]" else _NAME
                continue
            if first != closers[-1:]:
                raise _unexpected(text, at)
            at += 1
            del closers[-1]
        elif state == _COLON:
            if first != b":":
                raise _unexpected(text, at)
            at += 1
            state = _VALUE
            continue
        elif state in (_NAME, _FIRST_NAME) and not (state == _FIRST_NAME and first == b"}"):
            end = _end_of(_member_run, text, at)
            state = _NAME
            if end == at:
                end = yield from _string(text, at)
                state = _COLON
            at = end
            continue
        elif state in (_FIRST_VALUE, _FIRST_NAME) and first == closers[-1:]:
            at += 1
            del closers[-1]
        elif closers[-1:] == b"]" and (end := _end_of(_scalar_run, text, at)) > at:
            at = end
            state = _VALUE
            continue
        elif (end := _easy_end(text, at)) > 0:
            at = end
        elif first == b"[":
            at += 1
            closers += b"]"
            state = _FIRST_VALUE
            continue
        elif first == b"{":
            at += 1
            closers += b"}"
            state = _FIRST_NAME
            continue
        elif first == b'"':
            at = yield from _string(text, at)
        else:
            at = yield from _long_number(text, at)
        # A value has ended.
        if not closers:
            return at
        state = _AFTER


_SPACES = frozenset((b" ", b"\t", b"\n", b"\r"))


def _easy_end(text: bytes, at: int) -> int:
    """The end of the value that begins at `at`, if it is a simple one within a window; else 0."""
    found = _easy(text, at, at + _WINDOW)
    return found.end() if found is not None and found.end() < at + _WINDOW else 0


def _end_of(run: Callable[[bytes, int, int], re.Match[bytes] | None], text: bytes, at: int) -> int:
    """The end of a run, which may be empty, within a window."""
    found = run(text, at, at + _WINDOW)
    assert found is not None
    return found.end()


def _all_of(run: Callable[[bytes, int, int], re.Match[bytes] | None], text: bytes, at: int) -> Steps[int]:
    """The end of a run, which may be empty, of any length."""
    while (end := _end_of(run, text, at)) - at == _WINDOW:
        at = end
        yield
    return end


def _space(text: bytes, at: int) -> Steps[int]:
    return _all_of(_space_run, text, at)


def _string(text: bytes, at: int) -> Steps[int]:
    """The end of the string that begins at `at`."""
    found = _easy_string(text, at, at + _WINDOW)
    if found is not None:
        return found.end()
    if text[at : at + 1] != b'"':
        raise _unexpected(text, at)
    mark = at
    at = yield from _all_of(_plain_run, text, at + 1)
    while text[at : at + 1] == b"\\":
        escapes = _escapes(text, at, at + _WINDOW)
        if escapes is None:
            raise _unexpected(text, at)
        at = yield from _all_of(_plain_run, text, escapes.end())
        if at - mark > _SPAN:
            mark = at
            yield
    if text[at : at + 1] != b'"':
        raise _unexpected(text, at)
    return at + 1


def _long_number(text: bytes, at: int) -> Steps[int]:
    """The end of the number that begins at `at` and is longer than a window."""
    if _number(text, at, at + _WINDOW) is None:
        raise _unexpected(text, at)
    at += text[at : at + 1] == b"-"
    at = at + 1 if text[at : at + 1] == b"0" else (yield from _all_of(_digit_run, text, at))
    for part in (_fraction, _exponent):
        begun = part(text, at)
        if begun is not None:
            at = yield from _all_of(_digit_run, text, begun.end())
    return at


def _end(text: bytes, at: int) -> Steps[None]:
    at = yield from _space(text, at)
    if at < len(text):
        raise _unexpected(text, at)


def _unexpected(text: bytes, at: int) -> NotJSON:
    if at >= len(text):
        return NotJSON("the JSON text ends too early")
    return NotJSON(f"not JSON at byte {at}")
