"""
The log, one line an event:

    2026-11-20T11:46:42.123+0000 info kvtwist: kvtwist is serving lsfr on http://localhost:4000

It goes where twistd is told to log, standard output or a file, in this format in place of Twisted's. The access log
comes without a prefix, so that what reads logs can read it. Errors carry their traceback on the lines after. What
Twisted tells of its own work, a dozen lines for each start and stop, is of level debug.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import Any, Final

from twisted.application.service import Service
from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText, formatTime
from zope.interface import implementer

from kvtwist.model import OperatorError
from kvtwist.ops.log_writer import LogWriter, Target, TargetFile

ACCESS: Final = "kvtwist.access"
"""Namespace of the access log."""
LEVELS: Final = ("debug", "info", "warn", "error")
PRINTED: Final = "printed"
"""Key of an event that is on standard error already, where a terminal would show it twice."""
DAEMON_LOG: Final = "twistd.log"


def formatted(event: LogEvent) -> str | None:
    """The line, or lines, of an event; None for one that says nothing."""
    namespace = event.get("log_namespace", "-")
    if namespace == ACCESS:
        return eventAsText(event, includeTimestamp=False, includeSystem=False, includeTraceback=False) + "\n"
    text = eventAsText(event, includeTimestamp=False, includeSystem=False).strip("\n")
    if not text:
        return None
    first, *rest = text.splitlines()
    start = f"{formatTime(event.get('log_time'))} {level_of(event).name} {namespace}"
    return "\n".join([f"{start}: {first}", *("    " + line for line in rest)]) + "\n"


def level_of(event: LogEvent) -> Any:
    """The `LogLevel` of an event."""
    level = event.get("log_level", LogLevel.info)
    if level is LogLevel.info and event.get("log_namespace", "").startswith(("twisted.", "log_legacy")):
        return LogLevel.debug
    return level


@implementer(ILogObserver)
class Log(Service):
    """
    Observes the events of `twisted.logger`, and has their lines written once it is started.

    :param least: the lowest level that is logged, one of `LEVELS`. The access log is an option of its own.
    :param room: how many characters may wait to be written.
    """

    def __init__(self, target: Target, least: str, room: int, is_output: bool = False) -> None:
        self._least = LogLevel.levelWithName(least)
        self._is_output = is_output
        self._writer = LogWriter(target, room, _report)

    def __call__(self, event: LogEvent) -> None:
        """Called by `twisted.logger` with each event."""
        if event.get("log_namespace") != ACCESS and level_of(event) < self._least:
            return
        if self._is_output and PRINTED in event:
            return
        text = formatted(event)
        if text is not None:
            self._writer.write(text)

    def dropped(self) -> int:
        """How many lines could not be written."""
        return self._writer.dropped

    def reopen(self) -> None:
        """Go on in a new file of the same name, if it is a file."""
        self._writer.reopen()

    def flush(self) -> None:
        """Wait for a moment until all is written."""
        self._writer.flush()

    def privilegedStartService(self) -> None:
        """Begin to write. Called once the process is a daemon, if it is to be one."""
        super().privilegedStartService()
        self._writer.start()


def _report(lines: int) -> str:
    """The line that tells how many lines are missing."""
    text = formatted(
        {
            "log_time": time.time(),
            "log_level": LogLevel.warn,
            "log_namespace": "kvtwist.log",
            "log_format": "{lines} lines of the log were dropped: they could not be written, or not soon enough",
            "lines": lines,
        }
    )
    assert text is not None
    return text


def log_of(twistd: Mapping[str, Any], least: str, room: int) -> Log | None:
    """
    The log that twistd's own options ask for; None: they ask for syslog, or for a logger of somebody's own.

    :raises OperatorError: with one line that says why there cannot be one.
    """
    if twistd["logger"] or twistd["syslog"]:
        return None
    file = twistd["logfile"]
    if twistd["nodaemon"] and file in (None, "", "-"):
        stream = sys.stdout
        if stream is None:  # it was closed, and its number may be that of a file of the store by now
            return Log(TargetFile(os.devnull), least, room)
        return Log(Target(stream.fileno()), least, room, is_output=True)
    if file == "-":
        raise OperatorError("a daemon has no standard output to log to: give --logfile a name, or use twistd -n")
    try:
        return Log(TargetFile(file or DAEMON_LOG), least, room)
    except OSError as error:
        raise OperatorError(f"cannot log to {file or DAEMON_LOG}: {error.strerror}") from error
