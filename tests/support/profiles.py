"""
How to write, read and delete one key in each profile, for tests that apply to all of them.

Values here are JSON texts, and keys are letters and digits: both are valid in every profile.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from attrs import frozen

from tests.support.answer import JSON, PROBLEM, TEXT, Answer, is_json_error
from tests.support.wire import Address, Connection, sized

MAX_VALUE: Final = 64 * 1024
"""The `--max-value` of servers in the wire tests: a larger body is sent quickly."""


@frozen
class Call:
    """A request."""

    method: str
    target: str
    body: bytes


@frozen
class Profile:
    """
    One profile, as tests use it.

    :ivar error_type: the media type of its errors.
    :ivar max_value: the longest value it takes, in bytes.
    :ivar created: the status of a write to a new key.
    :ivar write: the request that writes a value.
    :ivar delete: the request that deletes a key.
    :ivar target: where a key's value is read.
    :ivar shown: makes the body of the answer to such a read.
    :ivar commits: whether a write is seen only after `POST /commit`.
    :ivar clear: the target of the DELETE that deletes every key, if there is one.
    """

    name: str
    error_type: str
    max_value: int
    created: int
    write: Callable[[str, bytes], Call]
    delete: Callable[[str], Call]
    target: Callable[[str], str]
    shown: Callable[[str, bytes], bytes] = lambda key, value: value
    commits: bool = False
    clear: str = ""

    def put(self, connection: Connection, key: str, value: bytes) -> Answer:
        """Write, and commit if the profile needs that. Returns the answer to the write; the commit's if only that is an error."""
        return self._change(connection, self.write(key, value))

    def remove(self, connection: Connection, key: str) -> Answer:
        """Delete, and commit if the profile needs that. See `put`."""
        return self._change(connection, self.delete(key))

    def _change(self, connection: Connection, call: Call) -> Answer:
        answer = connection.ask(call.method, call.target, call.body)
        if self.commits and answer.status < 300:
            committed = connection.ask("POST", "/commit")
            return answer if committed.status == 204 else committed
        return answer

    def is_error(self, answer: Answer, status: int) -> None:
        """Assert that an answer is an error in the format of the profile."""
        if self.error_type == JSON:
            is_json_error(answer, status)
        elif self.error_type == PROBLEM:
            assert (answer.status, answer.header("content-type")) == (status, PROBLEM), answer
            problem = answer.json()
            assert problem["status"] == status
            assert list(problem) == ["type", "title", "status", "detail"]
        else:
            assert (answer.status, answer.header("content-type")) == (status, self.error_type), answer
            assert re.fullmatch(rb"[^\n]+\n", answer.body), answer

    def read(self, address: Address, key: str) -> bytes | None:
        """The value of a key, after a commit if the profile needs one; None if there is none."""
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


def _delete_at(target: Callable[[str], str]) -> Callable[[str], Call]:
    return lambda key: Call("DELETE", target(key), b"")


def _put_at(target: Callable[[str], str]) -> Callable[[str, bytes], Call]:
    return lambda key, value: Call("PUT", target(key), value)


TRANSACTIONAL: Final = Profile(
    name="transactional",
    error_type=JSON,
    max_value=MAX_VALUE,
    created=201,
    write=_set,
    delete=lambda key: Call("DELETE", "/set", b'"%b"' % key.encode()),
    target=lambda key: f"/{key}",
    shown=lambda key, value: b'{"%b":%b}' % (key.encode(), value),
    commits=True,
)
HISTORY: Final = Profile(
    name="history",
    error_type=JSON,
    max_value=1024,
    created=204,
    write=_put_at(lambda key: f"/{key}"),
    delete=_delete_at(lambda key: f"/{key}"),
    target=lambda key: f"/{key}",
)
LSFR: Final = Profile("lsfr", TEXT, MAX_VALUE, 200, _put_at(_kv), _delete_at(_kv), _kv, clear="/clear")
CLSTR: Final = Profile("clstr", TEXT, MAX_VALUE, 200, _put_at(_kv), _delete_at(_kv), _kv, clear="/clear")
KEYS: Final = Profile(
    name="keys",
    error_type=JSON,
    max_value=MAX_VALUE,
    created=201,
    write=_put_at(lambda key: f"/keys/{key}"),
    delete=_delete_at(lambda key: f"/keys/{key}"),
    target=lambda key: f"/keys/{key}",
    clear="/keys",
)

NATIVE: Final = Profile(
    name="native",
    error_type=PROBLEM,
    max_value=MAX_VALUE,
    created=201,
    write=_put_at(lambda key: f"/v1/kv/{key}"),
    delete=_delete_at(lambda key: f"/v1/kv/{key}"),
    target=lambda key: f"/v1/kv/{key}",
    clear="/v1/kv?all=true",
)

ALL_PROFILES: Final = (TRANSACTIONAL, HISTORY, LSFR, CLSTR, KEYS, NATIVE)


def value_of(length: int) -> bytes:
    """A value of exactly so many bytes."""
    return b'"' + b"v" * (length - 2) + b'"'


def encoded(call: Call, *headers: str) -> bytes:
    """The bytes of a call, as an ordinary client sends it."""
    return sized(call.method, call.target, call.body, *headers)
