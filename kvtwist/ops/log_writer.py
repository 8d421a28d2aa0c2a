"""
Writes the log in a thread, so that a slow reader of the log cannot block the server.

Lines wait in a queue of bounded size: the reader of a pipe may not read, a terminal may be stopped, a disk may be slow.
When the queue is full, lines are dropped; the next line that is written says how many. The descriptor is not made
non-blocking, because O_NONBLOCK would affect every process that shares it.
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
"""How long a stop waits for the last lines to be written."""


class Target:
    """
    An open file to append to.

    :param descriptor: of a file, a pipe or a terminal.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, data: bytes) -> int:
        """Write, however long it takes; returns the number of bytes written, fewer than all after a failure."""
        written = 0
        with memoryview(data) as view:
            while written < len(data):
                try:
                    written += os.write(self._descriptor, view[written:])
                except BlockingIOError:  # another process that shares the descriptor has set O_NONBLOCK
                    ready = select.poll()
                    ready.register(self._descriptor, select.POLLOUT)
                    ready.poll()
                except OSError:  # the reader or the terminal is gone, or the disk is full
                    break
        return written

    def reopen(self) -> None:
        """Do nothing: a standard stream has no file to be renamed."""


class TargetFile(Target):
    """
    A log file that can be rotated: renamed, and then reopened under its old name.

    :raises OSError: it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)
        super().__init__(_open(self._path))

    def reopen(self) -> None:
        """
        Go on in the file that has the name now; create it if there is none.

        :raises OSError: it cannot be opened; the old file is still written to.
        """
        mode = os.fstat(self._descriptor).st_mode & 0o777
        is_new = not os.path.exists(self._path)
        new, old = _open(self._path), self._descriptor
        if is_new:  # a daemon's umask would deny its readers access
            os.fchmod(new, mode)
        self._descriptor = new
        os.close(old)


def _open(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)


class LogWriter:
    """
    The queue and its thread. All methods may be called in any thread, and in a signal handler.

    :param capacity: how many characters may wait; if none do, a text of any size is accepted.
    :param report: makes the line that says how many lines were dropped.
    :ivar dropped: how many lines were dropped since the start.
    """

    def __init__(self, target: Target, capacity: int, report: Callable[[int], str]) -> None:
        self.dropped = 0
        self._target = target
        self._capacity = capacity
        self._report = report
        self._lock = RLock()  # a signal handler may need it while the code that it interrupts holds it
        self._waiting: list[str] = []
        self._size = 0
        self._lost = 0
        self._unreported = 0
        self._torn = False
        self._wake: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._thread: Thread | None = None

    def start(self) -> None:
        """
        Start the thread; until then all lines wait.

        A process that becomes a daemon must fork before this: threads do not survive a fork.
        """
        self._thread = Thread(target=self._run, name="log", daemon=True)
        self._thread.start()
        atexit.register(self.flush)  # for lines that are logged when a start fails

    def write(self, text: str) -> None:
        """Write whole lines, each with its line break, soon; or drop them."""
        size = len(text)
        with self._lock:
            # After a dropped line drop all, until the thread has reported them: so no line is missing without a report.
            if self._lost or (self._size and self._size + size > self._capacity):
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
        """Return when all waiting lines are written, or `FLUSH_SECONDS` have passed."""
        written = Event()
        self._wake.put(written.set)
        written.wait(FLUSH_SECONDS)

    def reopen(self) -> None:
        """Reopen the file, after waiting lines are written to the old one."""
        self._wake.put(self._reopen)

    def stop(self) -> None:
        """End the thread after it has written the waiting lines."""
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
        """Write the waiting lines; returns whether there were any."""
        with self._lock:
            texts, self._waiting = self._waiting, []
            lost, self._lost = self._lost, 0
        size = sum(map(len, texts))
        if not size and not lost:
            return False
        self._report_dropped()
        self._send("".join(texts))
        self._unreported += lost
        self._report_dropped()
        with self._lock:
            self._size -= size
        return True

    def _send(self, text: str) -> None:
        """Write lines; drop those that cannot be written."""
        data = text.encode("utf-8", "backslashreplace")
        lines = data.count(b"\n", self._put(data))
        if lines:
            self._unreported += lines
            with self._lock:
                self.dropped += lines

    def _report_dropped(self) -> None:
        """Write how many lines were dropped since the last report."""
        if self._unreported:
            data = self._report(self._unreported).encode()
            if self._put(data) == len(data):
                self._unreported = 0

    def _put(self, data: bytes) -> int:
        """Write from the start of a line; returns the number of bytes written."""
        if self._torn and self._target.write(b"\n"):  # end the last line, which is not complete
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
            log.error("could not reopen the log, still writing to the old file: {error}", error=error)
        else:
            log.info("reopened the log")


def _nothing() -> None:
    """Wake the thread."""


def _end() -> None:
    """End the thread."""
