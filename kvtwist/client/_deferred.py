"""Coroutine methods that callers may use as Deferreds as well, and coroutines that must end in time."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

P = ParamSpec("P")
T = TypeVar("T")


def deferred(function: Callable[P, Coroutine[Deferred[Any], Any, T]]) -> Callable[P, Deferred[T]]:
    """Begin a coroutine when it is called, and return the Deferred of its result, which can be awaited too."""

    @wraps(function)
    def begin(*args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        return Deferred.fromCoroutine(function(*args, **kwargs))

    return begin


async def within(
    seconds: float,
    clock: IReactorTime,
    work: Coroutine[Deferred[Any], Any, T],
    late: Callable[[Failure], Exception],
) -> T:
    """
    The result of a coroutine, which is cancelled after so many seconds.

    :param late: makes the error that is raised then, of the failure with which the coroutine has ended.
    """

    def end(result: object, seconds: float) -> object:
        return Failure(late(result)) if isinstance(result, Failure) else result

    return cast(T, await Deferred.fromCoroutine(work).addTimeout(seconds, clock, end))
