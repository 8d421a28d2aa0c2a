"""
Logs on standard output, one line an event:

    2026-11-20T11:46:42.123+0000 info kvtwist.web: Server listening on 127.0.0.1:4000

Use with `twistd --logger kvtwist.ops.logs.stdout`, as run.sh does; without it twistd writes its own format. The access
log comes without a prefix, so that what reads logs can read it. Errors carry their traceback on the lines behind.
"""

from __future__ import annotations

import sys
from typing import TextIO

from twisted.logger import FileLogObserver, ILogObserver, LogEvent, LogLevel, eventAsText, formatTime

ACCESS = "kvtwist.access"
"""Namespace of the access log."""


def formatted(event: LogEvent) -> str | None:
    """The line, or lines, of an event; None for one that says nothing."""
    namespace = event.get("log_namespace", "-")
    if namespace == ACCESS:
        return eventAsText(event, includeTimestamp=False, includeSystem=False, includeTraceback=False) + "\n"
    text = eventAsText(event, includeTimestamp=False, includeSystem=False)
    if not text:
        return None
    level = event.get("log_level", LogLevel.info).name
    first, *rest = text.rstrip("\n").splitlines()
    lines = [f"{formatTime(event['log_time'])} {level} {namespace}: {first}", *("    " + line for line in rest)]
    return "\n".join(lines) + "\n"


def stdout() -> ILogObserver:
    """The observer that `twistd --logger` asks for."""
    stream: TextIO = sys.stdout
    return FileLogObserver(stream, formatted)
