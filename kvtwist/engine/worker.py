"""Threads that each do one kind of blocking work, in order, so that the reactor thread does none."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, Protocol, TypeVar

from twisted.internet.defer import Deferred, execute
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

P = ParamSpec("P")
T = TypeVar("T")


class Worker(Protocol):
    """Runs jobs one after the other, in the order in which they were given."""

    def run(self, job: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Run a job; the Deferred fires in the reactor thread with what it returned, or fails with what it raised."""

    def start(self) -> None:
        """Begin with the jobs."""

    def stop(self) -> None:
        """End once all jobs given are done."""


class ThreadWorker:
    """A `Worker` with a thread of its own."""

    def __init__(self, reactor: IReactorFromThreads, name: str) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(minthreads=1, maxthreads=1, name=name)

    def run(self, job: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """See `Worker`."""
        return deferToThreadPool(self._reactor, self._pool, job, *args, **kwargs)

    def start(self) -> None:
        """See `Worker`."""
        self._pool.start()

    def stop(self) -> None:
        """See `Worker`."""
        self._pool.stop()


class InlineWorker:
    """A `Worker` without a thread: every job is run at once. For tools and tests, which have nothing else to do."""

    stopped = False

    def run(self, job: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """See `Worker`. A thread that has ended runs no jobs, and nobody hears of it: neither does this one."""
        return Deferred() if self.stopped else execute(job, *args, **kwargs)

    def start(self) -> None:
        """See `Worker`."""

    def stop(self) -> None:
        """See `Worker`."""
        self.stopped = True
