"""Threads that do the blocking work, each one kind, so that the reactor thread does none."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any, ParamSpec, Protocol, TypeVar

from twisted.internet.defer import Deferred, execute
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

P = ParamSpec("P")
T = TypeVar("T")


class Worker(Protocol):
    """Runs jobs one after the other, in the order of the calls of `run`."""

    def run(self, job: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Run a job. The Deferred fires in the reactor thread with its result, or fails with its exception."""

    def start(self) -> None:
        """Begin to run jobs."""

    def stop(self) -> None:
        """Return when all jobs are done; run no more."""


class ThreadWorker:
    """
    A `Worker` with a thread of its own.

    (`twisted.internet.threads` manages any number of threads, and takes longer to accept a job than a small batch
    takes to be written.)
    """

    def __init__(self, reactor: IReactorFromThreads, name: str) -> None:
        self._reactor = reactor
        self._jobs: SimpleQueue[tuple[Deferred[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name=name, daemon=True)

    def run(self, job: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """See `Worker`."""
        done: Deferred[T] = Deferred()
        self._jobs.put((done, partial(job, *args, **kwargs)))
        return done

    def start(self) -> None:
        """See `Worker`."""
        self._thread.start()

    def stop(self) -> None:
        """See `Worker`."""
        self._jobs.put(None)
        if self._thread.ident is not None:
            self._thread.join()

    def _work(self) -> None:
        while (task := self._jobs.get()) is not None:
            self._do(*task)
            del task  # An idle thread must not keep a job alive, nor its result: therefore `_do` is another function.

    def _do(self, done: Deferred[Any], job: Callable[[], Any]) -> None:
        try:
            result = job()
        except BaseException:
            self._reactor.callFromThread(done.errback, Failure())
        else:
            self._reactor.callFromThread(done.callback, result)


class InlineWorker:
    """A `Worker` without a thread: it runs every job at once. For tools and tests."""

    stopped = False

    def run(self, job: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """See `Worker`. After `stop` the Deferred never fires, as with a thread that has ended."""
        return Deferred() if self.stopped else execute(job, *args, **kwargs)

    def start(self) -> None:
        """See `Worker`."""

    def stop(self) -> None:
        """See `Worker`."""
        self.stopped = True
