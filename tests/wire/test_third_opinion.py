"""
h11 as a third opinion on what a request is: our front refuses all that h11 refuses, but for the rows of a table.

The reverse does not hold: h11 accepts bare line feeds and folded lines, and we do not.
Every test that receives an answer also parses it with h11. Random requests come from `test_differential.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

import h11
import pytest
from attrs import frozen

from tests.support.fronts import Fronted, responses, without_threads
from tests.support.profiles import KEYS
from tests.support.requests import KEY, corpus
from tests.support.wire import head

AFTER: Final = head("GET", KEYS.target(KEY))


@frozen
class Liberty:
    """
    Something that our front accepts and h11 does not.

    :ivar where: whether the bytes from which on h11 refuses are a case of it.
    :ivar why: why we accept it.
    """

    name: str
    where: Callable[[bytes], object]
    why: str


LIBERTIES: Final = (
    Liberty(
        "empty lines before a request",
        lambda rest: rest.startswith(b"\r\n"),
        "RFC 9112, 2.2 has a server ignore them",
    ),
    Liberty(
        "whitespace before a chunk extension",
        re.compile(rb"\r\n[0-9a-fA-F]+[ \t]+;").search,
        "RFC 9112, 7.1.1 has it read over",
    ),
)


@pytest.fixture(scope="module")
def fronted() -> Iterator[Fronted]:
    """Our own front."""
    with without_threads():
        yield Fronted([KEYS.name])


def taken_by_h11(data: bytes) -> tuple[int, bytes | None]:
    """How many whole requests h11 reads, and the rest, if h11 refuses it."""
    count = 0
    while data:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=2**20)
        connection.receive_data(data)
        try:
            while not isinstance(event := connection.next_event(), h11.EndOfMessage):
                if event is h11.NEED_DATA:
                    return count, None
        except h11.RemoteProtocolError:
            return count, data
        count += 1
        data = connection.trailing_data[0]
        if connection.their_state is h11.MUST_CLOSE:
            break
    return count, None


def compare(fronted: Fronted, data: bytes) -> str | None:
    """Let both read it; returns the name of the liberty that our front takes, if any."""
    count, rest = taken_by_h11(data)
    fronted.methods.clear()
    peer = fronted.ask(data)
    answers = [answer for answer in responses(peer.received, fronted.methods) if answer.status >= 200]
    over = peer.fate != "open"
    peer.leave()
    if rest is None or (over and len(answers) <= count):
        return None
    if over and len(answers) == count + 1 and answers[-1].status >= 400:
        return None
    for liberty in LIBERTIES:
        if liberty.where(rest):
            return liberty.name
    raise AssertionError(f"h11 takes {count} of {data!r}, and we answer {answers}")


def test_corpus(fronted: Fronted) -> None:
    found = {compare(fronted, data + AFTER) for data in corpus(KEYS).values()}
    unused = {liberty.name for liberty in LIBERTIES} - found
    assert not unused, f"no request of the corpus needs {unused}"
