"""
The log, one line for each event:

    2026-11-20T11:46:42.123+0000 info kvtwist: kvtwist is serving lsfr on http://localhost:4000

It goes where twistd logs, to standard output or a file, in this format in place of Twisted's. Lines of the access log
have no prefix, so that log analysers can read them. A traceback follows its error on indented lines. Twisted's own
events, a dozen for each start and stop, have the level debug.
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
"""Key of an event that was printed on standard error already; a terminal would show it twice."""
DAEMON_LOG: Final = "twistd.log"


def formatted(event: LogEvent) -> str | None:
    """The line or lines of an event; None if it has no text."""
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
    Observes the events of `twisted.logger`, and writes their lines once it is started.

    :param least: the lowest level that is logged, one of `LEVELS`. The access log does not depend on it.
    :param capacity: how many characters may wait to be written.
    :param is_output: whether the target is standard output, so that events which were printed are not logged.
    """

    def __init__(self, target: Target, least: str, capacity: int, is_output: bool = False) -> None:
        self._least = LogLevel.levelWithName(least)
        self._is_output = is_output
        self._writer = LogWriter(target, capacity, _report)

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
        """How many lines were dropped."""
        return self._writer.dropped

    def reopen(self) -> None:
        """Go on in a new file of the same name, if the log is a file."""
        self._writer.reopen()

    def flush(self) -> None:
        """Wait until all lines are written, `FLUSH_SECONDS` at most."""
        self._writer.flush()

    def privilegedStartService(self) -> None:
        """Begin to write. Called after twistd has daemonized."""
        super().privilegedStartService()
        self._writer.start()


def _report(lines: int) -> str:
    """The line that says how many lines were dropped."""
    text = formatted(
        {
            "log_time": time.time(),
            "log_level": LogLevel.warn,
            "log_namespace": "kvtwist.log",
            "log_format": "{lines} lines of the log were dropped: it could not be written, or its reader was too slow",
            "lines": lines,
        }
    )
    assert text is not None
    return text


def log_of(twistd: Mapping[str, Any], least: str, capacity: int) -> Log | None:
    """
    The log that twistd's options ask for; None for syslog and for another `--logger`.

    :raises OperatorError: it cannot be opened.
    """
    if twistd["logger"] or twistd["syslog"]:
        return None
    file = twistd["logfile"]
    if twistd["nodaemon"] and file in (None, "", "-"):
        stream = sys.stdout
        if stream is None:  # it was closed; by now its descriptor may belong to a file of the store
            return Log(TargetFile(os.devnull), least, capacity)
        return Log(Target(stream.fileno()), least, capacity, is_output=True)
    if file == "-":
        raise OperatorError("a daemon has no standard output: name a file with --logfile, or use twistd -n")
    try:
        return Log(TargetFile(file or DAEMON_LOG), least, capacity)
    except OSError as error:
        raise OperatorError(f"cannot log to {file or DAEMON_LOG}: {error.strerror}") from error
