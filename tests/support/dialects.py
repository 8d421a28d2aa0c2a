"""
What the five dialects have in common, for tests that hold over all of them: how to write and read one key.

A value here is a JSON text, since that is a value in every dialect; keys are letters and digits, for the same
reason.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import frozen

from tests.support.answer import JSON, TEXT
from tests.support.wire import Address, Connection, sized

MAX_VALUE: Final = 64 * 1024
"""The limit on values that servers of the wire tests run with, so that a body over it is sent in no time."""


@frozen
class Call:
    """A request."""

    method: str
    target: str
    body: bytes


@frozen
class Dialect:
    """
    One profile.

    :ivar error_type: the media type of its errors.
    :ivar max_value: the longest value it takes, in bytes.
    :ivar created: the status of a write to a new key.
    :ivar write: the request that writes a value.
    :ivar target: where a key's value is read.
    :ivar shown: the body of the answer to such a read.
    :ivar commits: whether a write is seen only after `POST /commit`.
    """

    profile: str
    error_type: str
    max_value: int
    created: int
    write: Callable[[str, bytes], Call]
    target: Callable[[str], str]
    shown: Callable[[str, bytes], bytes] = lambda key, value: value
    commits: bool = False

    def read(self, address: Address, key: str) -> bytes | None:
        """The value of a key, once all that was written is visible; None when there is none."""
        with Connection(address) as connection:
            if self.commits:
                assert connection.ask("POST", "/commit").status == 204
            answer = connection.ask("GET", self.target(key))
        if answer.status == 404:
            return None
        assert answer.status == 200, answer
        bare = self.shown(key, b"*")
        before, after = bare.split(b"*")
        assert answer.body.startswith(before) and answer.body.endswith(after), answer
        return answer.body[len(before) : len(answer.body) - len(after)]


def _set(key: str, value: bytes) -> Call:
    return Call("POST", "/set", b'{"%b":%b}' % (key.encode(), value))


def _kv(key: str) -> str:
    return f"/kv/{key}"


def _put_at(target: Callable[[str], str]) -> Callable[[str, bytes], Call]:
    return lambda key, value: Call("PUT", target(key), value)


TRANSACTIONAL: Final = Dialect(
    profile="transactional",
    error_type=JSON,
    max_value=MAX_VALUE,
    created=201,
    write=_set,
    target=lambda key: f"/{key}",
    shown=lambda key, value: b'{"%b":%b}' % (key.encode(), value),
    commits=True,
)
HISTORY: Final = Dialect(
    profile="history",
    error_type=JSON,
    max_value=1024,
    created=204,
    write=_put_at(lambda key: f"/{key}"),
    target=lambda key: f"/{key}",
)
LSFR: Final = Dialect("lsfr", TEXT, MAX_VALUE, 200, _put_at(_kv), _kv)
CLSTR: Final = Dialect("clstr", TEXT, MAX_VALUE, 200, _put_at(_kv), _kv)
KEYS: Final = Dialect(
    profile="keys",
    error_type=JSON,
    max_value=MAX_VALUE,
    created=201,
    write=_put_at(lambda key: f"/keys/{key}"),
    target=lambda key: f"/keys/{key}",
)

DIALECTS: Final = (TRANSACTIONAL, HISTORY, LSFR, CLSTR, KEYS)


def value_of(length: int) -> bytes:
    """A value of exactly that many bytes."""
    return b'"' + b"v" * (length - 2) + b'"'


def encoded(call: Call, *headers: str) -> bytes:
    """The call as an ordinary client sends it."""
    return sized(call.method, call.target, call.body, *headers)
