"""
Writes the log in a thread of its own, so that no reader of it can hold up the server.

What is to be written waits in a queue of bounded size: a pipe may have a reader that does not read, a terminal may be
stopped, a disk may be slow. When the queue is full, lines are dropped and counted; how many is the next line that is
written. Nothing is done to the descriptor itself: O_NONBLOCK would change it for every process that shares it.
"""

from __future__ import annotations

import atexit
import os
import select
from collections.abc import Callable
from queue import SimpleQueue
from threading import Event, RLock, Thread

from twisted.logger import Logger

log = Logger(namespace="kvtwist.log")

FLUSH_SECONDS = 0.3
"""How long a stop waits for a reader to take the last lines."""


class Target:
    """
    An open file to append to.

    :param descriptor: of whatever kind: a file, a pipe, a terminal.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, data: bytes) -> int:
        """Write, however long it takes; returns the number of bytes that were written before it failed, if it did."""
        written = 0
        with memoryview(data) as view:
            while written < len(data):
                try:
                    written += os.write(self._descriptor, view[written:])
                except BlockingIOError:  # another process that shares it has set O_NONBLOCK
                    ready = select.poll()
                    ready.register(self._descriptor, select.POLLOUT)
                    ready.poll()
                except OSError:  # no reader any more, no room, no terminal
                    break
        return written

    def reopen(self) -> None:
        """Do nothing: nobody can move a standard stream away."""


class TargetFile(Target):
    """
    A file that can be renamed, and then reopened under its old name.

    :raises OSError: it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)
        super().__init__(_open(self._path))

    def reopen(self) -> None:
        """
        Go on in the file that has the name now, made if there is none.

        :raises OSError: it cannot be opened; the old one is written on.
        """
        mode = os.fstat(self._descriptor).st_mode & 0o777
        is_new = not os.path.exists(self._path)
        new, old = _open(self._path), self._descriptor
        if is_new:  # a daemon's umask would keep its readers out
            os.fchmod(new, mode)
        self._descriptor = new
        os.close(old)


def _open(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)


class LogWriter:
    """
    The queue and its thread. All methods may be called in any thread, and in a signal handler.

    :param room: how many characters may wait; what comes when nothing waits is taken whatever its size.
    :param report: makes the line that tells how many lines were dropped.
    :ivar dropped: how many lines were dropped since the start.
    """

    def __init__(self, target: Target, room: int, report: Callable[[int], str]) -> None:
        self.dropped = 0
        self._target = target
        self._room = room
        self._report = report
        self._lock = RLock()  # which a signal handler may take while the code that it interrupts holds it
        self._waiting: list[str] = []
        self._size = 0
        self._lost = 0
        self._untold = 0
        self._torn = False
        self._wake: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._thread: Thread | None = None

    def start(self) -> None:
        """
        Start the thread; until then everything waits.

        A process that forks to become a daemon does so first: threads do not survive it.
        """
        self._thread = Thread(target=self._run, name="log", daemon=True)
        self._thread.start()
        atexit.register(self.flush)  # for what is logged when a start fails

    def write(self, text: str) -> None:
        """Have whole lines written, each with its end; or drop them."""
        size = len(text)
        with self._lock:
            # Once some are dropped all are, until the thread has told how many: they would be missing in between.
            if self._lost or (self._size and self._size + size > self._room):
                lines = text.count("\n")
                self._lost += lines
                self.dropped += lines
                return
            self._size += size
            is_first = not self._waiting
            self._waiting.append(text)
        if is_first:
            self._wake.put(_nothing)

    def flush(self) -> None:
        """Return when all that waits has been written, or `FLUSH_SECONDS` have passed."""
        written = Event()
        self._wake.put(written.set)
        written.wait(FLUSH_SECONDS)

    def reopen(self) -> None:
        """Have the file reopened, after what waits has been written to the old one."""
        self._wake.put(self._reopen)

    def stop(self) -> None:
        """End the thread once it has written what waits."""
        self._wake.put(_end)
        if self._thread is not None:
            self._thread.join(FLUSH_SECONDS)
        atexit.unregister(self.flush)

    def _run(self) -> None:
        command: Callable[[], object] = _nothing
        while command is not _end:
            command = self._wake.get()
            while self._write_waiting():
                pass
            command()

    def _write_waiting(self) -> bool:
        """Write what waits; returns whether there was anything."""
        with self._lock:
            texts, self._waiting = self._waiting, []
            lost, self._lost = self._lost, 0
        size = sum(map(len, texts))
        if not size and not lost:
            return False
        self._tell()
        self._send("".join(texts))
        self._untold += lost
        self._tell()
        with self._lock:
            self._size -= size
        return True

    def _send(self, text: str) -> None:
        """Write lines; those that cannot be written are dropped."""
        data = text.encode("utf-8", "backslashreplace")
        lines = data.count(b"\n", self._put(data))
        if lines:
            self._untold += lines
            with self._lock:
                self.dropped += lines

    def _tell(self) -> None:
        """Write how many lines were dropped, if any were."""
        if self._untold:
            data = self._report(self._untold).encode()
            if self._put(data) == len(data):
                self._untold = 0

    def _put(self, data: bytes) -> int:
        """Write at the beginning of a line; returns the number of bytes that were written."""
        if self._torn and self._target.write(b"\n"):  # the last line that is there is not whole
            self._torn = False
        if self._torn:
            return 0
        written = self._target.write(data)
        self._torn = data[:written][-1:] not in (b"", b"\n")
        return written

    def _reopen(self) -> None:
        try:
            self._target.reopen()
        except OSError as error:
            log.error("the log could not be reopened, it goes on where it was: {error}", error=error)
        else:
            log.info("the log has been reopened")


def _nothing() -> None:
    """Only wakes the thread up."""


def _end() -> None:
    """Ends the thread."""
