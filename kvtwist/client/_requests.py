"""
Requests that are repeated where that is safe, and answers that become errors.

A request that the server has not seen is always sent again. One that it may have seen is sent again only if that
changes nothing: if it reads, or if it is a write with a condition that its own success would break. A 412 after such a
repetition may therefore be the trace of the first try; `Answer` does not say, so `Reply.uncertain` does.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress

import msgspec
from attrs import frozen
from twisted.internet.defer import DeferredSemaphore
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.internet.task import deferLater
from twisted.web.iweb import IResponse

from kvtwist.client._http import Answer, Body, Cut, Request, Sender, Unsent, seconds_of
from kvtwist.client.errors import (
    ClientError,
    Gone,
    Invalid,
    NoSpace,
    PreconditionFailed,
    TooLarge,
    Unavailable,
    Uncertain,
    Unexpected,
)

PROBLEM = "application/problem+json"
LONGEST_WAIT = 60.0
"""The longest `Retry-After`, in seconds, that is waited for."""
_REFUSING = frozenset({502, 503, 504})
"""Statuses of a server, or a proxy before it, that may do better later."""
_KNOWN: dict[int, Callable[[str], ClientError]] = {
    400: Invalid,
    412: PreconditionFailed,
    413: TooLarge,
    414: TooLarge,
    431: TooLarge,
    507: NoSpace,
}


@frozen
class Backoff:
    """
    How long to wait before a request is repeated: longer each time, and a random part less, so that many clients of a
    server that returns do not come all at once.

    :ivar first: seconds before the first repetition, at most.
    :ivar longest: seconds before any later one, at most.
    :ivar chance: a random number from 0 to 1.
    """

    first: float = 0.1
    longest: float = 5.0
    chance: Callable[[], float] = random.random

    def seconds(self, failures: int) -> float:
        """:param failures: how many there were in a row, at least 1."""
        longest = min(self.longest, self.first * 2.0 ** min(failures - 1, 16))
        return longest * (0.5 + self.chance() / 2)


@frozen
class Reply:
    """
    An answer, and what was tried for it.

    :ivar uncertain: whether an earlier try may have been done.
    """

    answer: Answer
    uncertain: bool


class Requests:
    """
    :param seconds: how long one try may take.
    :param tries: how often a request is sent at most.
    :param connections: how many requests are under way at a time; further ones wait.
    """

    def __init__(
        self, sender: Sender, clock: IReactorTime, seconds: float, tries: int, connections: int, backoff: Backoff
    ) -> None:
        self._sender = sender
        self._seconds = seconds
        self._tries = tries
        self._turns = DeferredSemaphore(connections)
        self.clock = clock
        self.backoff = backoff

    def soon(self, function: Callable[[], object]) -> None:
        """Call a function in the reactor's next iteration. Any thread may ask for it, and any finalizer."""
        if IReactorFromThreads.providedBy(self.clock):
            self.clock.callFromThread(function)
        else:
            self.clock.callLater(0, function)

    async def send(self, request: Request, repeatable: bool, writes: bool = False) -> Reply:
        """
        Send a request, again if it fails and that is safe.

        :param repeatable: whether it may be sent again although the server may have done it.
        :param writes: whether it changes anything.
        :raises Unavailable: there is no answer, or the server cannot serve now; `Uncertain` if it may have written.
        """
        uncertain = False
        tries = 0
        while True:
            tries += 1
            try:
                answer = await self._once(request)
            except Unsent as error:
                failure, again = Unavailable(f"{self._sender.base} cannot be reached: {error}"), True
            except Cut as error:
                failure, again = Unavailable(f"{self._sender.base} does not answer: {error}"), repeatable
                uncertain = uncertain or writes
            else:
                if answer.status not in _REFUSING:
                    return Reply(answer, uncertain)
                failure, again = self._refusal(answer), repeatable
                uncertain = uncertain or (writes and answer.status != 503)
            wait = max(failure.retry_after or 0.0, self.backoff.seconds(tries))
            if not again or tries >= self._tries or wait > LONGEST_WAIT:
                if uncertain:
                    raise Uncertain(f"it is not known whether the write was done: {failure}", failure.retry_after)
                raise failure
            await deferLater(self.clock, wait)

    async def _once(self, request: Request) -> Answer:
        await self._turns.acquire()
        try:
            return await self._sender.whole(request, self._seconds)
        finally:
            self._turns.release()

    def _refusal(self, answer: Answer) -> Unavailable:
        retry_after = seconds_of(answer.header("Retry-After"), self.clock.seconds())
        return Unavailable(f"{self._sender.base} cannot serve now: {detail_of(answer)}", retry_after)

    async def stream(self, request: Request) -> tuple[IResponse, Body]:
        """
        Begin a request whose answer has no end. It takes no turn, and is not repeated.

        :raises Unavailable: there is no answer, or the server cannot serve now.
        :raises ClientError: the status is not 200.
        """
        try:
            response, body = await self._sender.begin(request, self._seconds)
            if response.code == 200:
                return response, body
            answer = await self._sender.rest(response, body, self._seconds)
        except (Unsent, Cut) as error:
            raise Unavailable(f"{self._sender.base} cannot be reached: {error}") from error
        raise self._refusal(answer) if answer.status in _REFUSING else error_of(answer)


def error_of(answer: Answer) -> ClientError:
    """The error that an answer stands for."""
    detail = detail_of(answer)
    known = _KNOWN.get(answer.status)
    if known is not None:
        return known(detail)
    if not is_problem(answer):
        return Unexpected(f"{detail}, and not as the native API says it: is that profile served there?")
    return Gone(detail, _problem(answer).oldest) if answer.status == 410 else Unexpected(detail)


def is_problem(answer: Answer) -> bool:
    """Whether an error is told in the way of the native API."""
    return (answer.header("Content-Type") or "") == PROBLEM


class _Problem(msgspec.Struct):
    detail: str = ""
    title: str = ""
    oldest: int = 0


def _problem(answer: Answer) -> _Problem:
    with suppress(msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.json.decode(answer.body, type=_Problem)
    return _Problem()


def detail_of(answer: Answer) -> str:
    """What an answer says about itself."""
    problem = _problem(answer)
    return problem.detail or problem.title or f"status {answer.status}"
