"""
Twisted's reactor in a thread of its own, for callers that block.

crochet offers this and more, but its last release is from 2023, which was before Python 3.12; what is needed is here.

The interpreter waits at its end for the threads of the reactor's pool, which wait for the reactor to stop. So one more
thread waits for all other threads of the program, and then stops the reactor.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.threadable import isInIOThread

T = TypeVar("T")
_starting = threading.Lock()
_ending = threading.Event()


def blocking(function: Callable[[], Deferred[T] | Coroutine[Deferred[Any], Any, T]]) -> T:
    """
    Call a function in the reactor's thread, and wait for its result.

    An exception that ends the waiting, as Ctrl-C does, cancels the call.

    :raises RuntimeError: this is the reactor's thread, which would wait for itself; or the program is ending.
    """
    reactor = _running()
    done: Future[T] = Future()
    calls: list[Deferred[T]] = []

    def begin() -> None:
        async def run() -> T:
            return await function()

        calls.append(Deferred.fromCoroutine(run()))
        calls[0].addCallbacks(done.set_result, lambda failure: done.set_exception(failure.value))

    reactor.callFromThread(begin)
    try:
        return done.result()
    except BaseException:
        if not done.done():
            reactor.callFromThread(lambda: calls[0].cancel())
        raise


def _running() -> Any:
    from twisted.internet import reactor

    if isInIOThread():
        raise RuntimeError("this thread runs the reactor, and must not wait: use kvtwist.client.Client here")
    if _ending.is_set():
        raise RuntimeError("the program is ending, and has stopped the reactor")
    with _starting:
        if not reactor.running:
            _start(reactor)
    return reactor


def _start(reactor: Any) -> None:
    started: Future[None] = Future()

    def run() -> None:
        try:
            reactor.callWhenRunning(started.set_result, None)
            reactor.run(installSignalHandlers=False)
        except Exception as error:
            started.set_exception(error)

    thread = threading.Thread(target=run, name="kvtwist reactor", daemon=True)
    thread.start()
    started.result()
    threading.Thread(target=_stop_at_the_end, args=(reactor, thread), name="kvtwist end").start()


def _stop_at_the_end(reactor: Any, thread: threading.Thread) -> None:
    ours = threading.current_thread()
    while waiting := [
        other
        for other in threading.enumerate()
        if other.is_alive() and not other.daemon and other is not ours and other not in reactor.getThreadPool().threads
    ]:
        waiting[0].join()
    _ending.set()
    reactor.callFromThread(reactor.stop)
    thread.join()
