"""
The server's own front beside twisted.web: the same requests, in the same pieces, to the same store, get the same
answers and leave the connection in the same state, unless a row of the table below allows a difference.

Both run in this process, without a kernel (`tests/support/net.py`), so that there can be thousands of cases. The last
test checks that a real server does the same over real sockets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Final

import pytest
from attrs import frozen
from hypothesis import given, settings

from kvtwist.model import DATA, HISTORY, STAGED, Clear
from tests.conftest import StartServer
from tests.support.answer import Answer
from tests.support.fronts import Fronted, responses, without_threads
from tests.support.profiles import KEYS, MAX_VALUE, NATIVE, Profile
from tests.support.requests import KEY, conversations, corpus, cut_at
from tests.support.stock import Stock
from tests.support.wire import Connection, head, settle
from tests.wire.test_third_opinion import compare as compare_with_h11

MATTERS: Final = (
    *("content-length", "content-type", "allow", "retry-after", "transfer-encoding", "link"),
    *("accept-ranges", "content-range", "kvtwist-ttl"),
)
"""Headers that are compared. `Connection` is looked at by itself: our own front says when it closes, and only then."""

Result = tuple[int, tuple[tuple[str, str], ...], bytes]


@frozen
class Outcome:
    """
    The result of a connection.

    :ivar results: of each final response its status, the headers that matter, and its body.
    :ivar over: whether the server has closed it, or reads no more.
    """

    results: tuple[Result, ...]
    over: bool


@frozen
class Difference:
    """
    A reason why the two may differ.

    :ivar where: whether it applies to the bytes that were sent.
    :ivar how: whether it allows these outcomes, our front's and stock's.
    :ivar why: which of them is right, or why both are.
    """

    name: str
    where: Callable[[bytes], object]
    how: Callable[[Outcome, Outcome], bool]
    why: str


def _refused(first: Outcome, second: Outcome) -> bool:
    """Whether the first connection ends with 400, and the answers before that are the same."""
    *before, last = first.results or ((0, (), b""),)
    return first.over and last[0] == 400 and tuple(before) == second.results[: len(before)]


def own_refuses(own: Outcome, stock: Outcome) -> bool:
    return _refused(own, stock)


def own_closes(own: Outcome, stock: Outcome) -> bool:
    if not own.over or own.results[-1][0] == 400:
        return False
    count = len(own.results)
    return own.results in (stock.results[:count], (*stock.results[: count - 1], own.results[-1]))


def stock_refuses(own: Outcome, stock: Outcome) -> bool:
    return _refused(stock, own)


def stock_closes(own: Outcome, stock: Outcome) -> bool:
    return stock.over and own.results[: len(stock.results)] == stock.results


DIFFERENCES: Final = (
    Difference(
        "folded lines",
        re.compile(rb"\r\n[ \t]").search,
        own_refuses,
        "RFC 9112, 5.2 lets a server refuse them; twisted.web joins them",
    ),
    Difference(
        "control characters",
        re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]").search,
        own_refuses,
        "RFC 9110, 5.5 calls them invalid in values, and RFC 3986 in targets; twisted.web lets all pass but NUL, CR and LF",
    ),
    Difference(
        "lengths of more than 64 bits",
        re.compile(rb"(?i)content-length[ \t]*:[ \t]*[0-9]{20,}").search,
        own_refuses,
        "llhttp refuses what it cannot count, 400; for twisted.web it is too large, 413",
    ),
    Difference(
        "tab after a transfer coding",
        re.compile(rb"(?i)transfer-encoding:[^\r]*\t\r").search,
        own_refuses,
        "it is allowed; llhttp refuses it, and nobody sends it",
    ),
    Difference(
        "chunks in HTTP/1.0",
        re.compile(rb"HTTP/1\.0\r\n(.+\r\n)*transfer-encoding", re.IGNORECASE).search,
        own_refuses,
        "RFC 9112, 6.1: the framing is faulty; twisted.web reads over the header, or the body",
    ),
    Difference(
        "malformed chunk extensions",
        re.compile(rb"\r\n[0-9a-fA-F]+[ \t]*;").search,
        own_refuses,
        "RFC 9112, 7.1.1 gives them a form; twisted.web looks at their characters only",
    ),
    Difference(
        "whitespace before a chunk extension",
        re.compile(rb"\r\n[0-9a-fA-F]+[ \t]+;").search,
        stock_refuses,
        "RFC 9112, 7.1.1 has it read over; to twisted.web it is a part of the size",
    ),
    Difference(
        "malformed trailers",
        re.compile(rb"\r\n0+(;[^\r]*)?\r\n[^\r]").search,
        own_refuses,
        "RFC 9112, 7.1.2 gives them the form of headers; twisted.web does not look at them",
    ),
    Difference(
        "chunk sizes of more than 60 bits",
        re.compile(rb"\r\n[0-9a-fA-F]{16,}").search,
        own_refuses,
        "no body is that large; twisted.web waits for it",
    ),
    Difference(
        "chunks that will be too large",
        re.compile(rb"\r\n[0-9a-fA-F]{4,}\r\n").search,
        own_closes,
        "a chunk's size is enough for an answer, and the connection is closed; twisted.web waits for the bytes, and goes"
        " on if all of them have come at once",
    ),
    Difference(
        "empty lines before a request",
        re.compile(rb"\A\r\n|\r\n\r\n[^\r\n]*\r\n(\r\n|[A-Za-z])").search,
        stock_refuses,
        "RFC 9112, 2.2 has a server ignore at least one; twisted.web ignores one, our own any number",
    ),
    Difference(
        "persistent HTTP/1.0",
        re.compile(rb"HTTP/1\.0\r\n(.+\r\n)*connection:[^\r]*keep-alive", re.IGNORECASE).search,
        stock_closes,
        "we keep it open if the client asks for that; twisted.web closes",
    ),
)


class Pair:
    """
    Both fronts, each over a store of its own with the same content.

    :ivar profile: of both.
    :ivar after: a request that is sent after the others.
    :ivar front: our own.
    """

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.after = head("GET", profile.target(KEY))
        self.front = Fronted([profile.name])
        self._stock = Stock(profile.name)

    def compare(self, pieces: list[bytes]) -> str | None:
        """Send that to both; returns the name of the difference, if there is one."""
        return explained(b"".join(pieces), self.own(pieces), self._outcome(self._stock, pieces))

    def own(self, pieces: list[bytes]) -> Outcome:
        """Send that to our own front, which must hold no memory afterwards."""
        outcome = self._outcome(self.front, pieces)
        assert (self.front.memory.held, self.front.dispatcher.active_requests) == (0, 0)
        return outcome

    def _outcome(self, front: Fronted | Stock, pieces: list[bytes]) -> Outcome:
        front.store._commit.assigned = front.store._commit.durable = 0  # answers have revisions
        front.store.transact([], [Clear(DATA), Clear(STAGED), Clear(HISTORY)])
        front.methods.clear()
        peer = front.connect()
        peer.send(*pieces)
        over = peer.fate != "open"
        peer.leave()
        assert front.net.faults == []
        answers = final(bytes(peer.received), tuple(front.methods))
        if front is self.front and answers:
            assert (answers[-1].header("connection") == "close") == over, answers[-1]
        return Outcome(results(answers), over)

    @property
    def methods(self) -> tuple[bytes, ...]:
        """Of the requests that our own front has answered on its last connection."""
        return tuple(self.front.methods)


@lru_cache(1000)  # most cuts change nothing of it
def final(received: bytes, methods: tuple[bytes, ...]) -> tuple[Answer, ...]:
    """The answers in what was received, without interim ones."""
    return tuple(answer for answer in responses(received, methods) if answer.status >= 200)


def results(answers: tuple[Answer, ...]) -> tuple[Result, ...]:
    """The parts of them that are compared."""
    return tuple(
        (answer.status, tuple(sorted(header for header in answer.headers if header[0] in MATTERS)), answer.body)
        for answer in answers
    )


def explained(data: bytes, own: Outcome, stock: Outcome) -> str | None:
    """The name of the difference between two outcomes, if there is one; :raises AssertionError: there is no reason."""
    if own == stock:
        return None
    for difference in DIFFERENCES:
        if difference.where(data) and difference.how(own, stock):
            return difference.name
    raise AssertionError(f"to {data!r}\nown:   {own}\nstock: {stock}")


def only(profile: Profile) -> pytest.MarkDecorator:
    """Run a test with one profile."""
    return pytest.mark.parametrize("pair", [profile], ids=[profile.name], indirect=True)


@pytest.fixture(scope="module", params=[KEYS, NATIVE], ids=lambda profile: str(profile.name))
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Both, for all tests of a profile."""
    with without_threads():
        yield Pair(request.param)


def test_corpus(pair: Pair) -> None:
    found = {pair.compare([data, pair.after]) for data in corpus(pair.profile).values()}
    unused = {difference.name for difference in DIFFERENCES} - found
    assert not unused, f"no request of the corpus differs in {unused}"


@only(KEYS)
def test_corpus_cut_anywhere(pair: Pair) -> None:
    for name, data in corpus(pair.profile).items():
        whole = data + pair.after
        expected = pair.own([whole])
        # A long request is cut near its ends only: a cut in the middle of a value changes nothing.
        cuts = range(1, len(whole)) if len(whole) < 400 else [*range(1, 150), *range(len(whole) - 50, len(whole))]
        # Requests are alike, so it is enough that each place is tried with some of them.
        for cut in cuts[len(name) % 3 :: 3]:
            assert pair.own(cut_at(whole, cut)) == expected, (name, cut)
        for cut in cuts[len(name) % 16 :: 16]:
            pair.compare(cut_at(whole, cut))


@only(KEYS)
@settings(max_examples=1000)
@given(pieces=conversations(KEYS))
def test_random_requests(pair: Pair, pieces: list[bytes]) -> None:
    compare_with_both(pair, pieces)


@only(NATIVE)
@settings(max_examples=400)
@given(pieces=conversations(NATIVE))
def test_random_requests_of_native(pair: Pair, pieces: list[bytes]) -> None:
    compare_with_both(pair, pieces)


def compare_with_both(pair: Pair, pieces: list[bytes]) -> None:
    """Compare our front with twisted.web and with h11."""
    pair.compare([*pieces, pair.after])
    compare_with_h11(pair.front, b"".join(pieces) + pair.after)


@only(KEYS)
def test_corpus_over_real_sockets(serve: StartServer, pair: Pair) -> None:
    server = serve("--profile", KEYS.name, "--store", "memory", "--max-value", str(MAX_VALUE))
    for name, data in corpus(KEYS).items():
        expected = pair.own([data])
        with Connection(server.address) as connection:
            assert connection.ask("DELETE", "/keys").status < 300
            connection.send(data)
            settle(server.address)
            connection.half_close()
            received = connection.receive_rest()
        assert results(final(received, pair.methods)) == expected.results, name
