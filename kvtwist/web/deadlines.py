"""
The time limits of a connection.

| while                                  | the client has                              | and then              |
|----------------------------------------|---------------------------------------------|-----------------------|
| nothing of a request has arrived       | `idle_seconds`                              | the connection closes |
| a head is read                         | `head_seconds` from its first byte          | 408                   |
| a body is read                         | `body_seconds` for each 64 KiB              | 408                   |
| a request is answered                  | no limit                                    |                       |
| it takes nothing of what it is sent    | `idle_seconds` since it last took something | it is aborted         |
| all is sent, and the connection closes | `LINGER_SECONDS` to finish sending          | it is aborted         |

The site checks all deadlines once a second: a timer for each connection would cost more than its requests.
"""

from __future__ import annotations

from typing import Any

from kvtwist.web import transports
from kvtwist.web.limits import WebLimits
from kvtwist.web.reader import HEAD, IDLE, State

NEVER = float("inf")
LINGER_SECONDS = 2.0
BODY_STEP = 64 * 1024
"""A client has `body_seconds` for so many bytes of a body."""


def seconds_to_read(state: State, limits: WebLimits) -> float:
    """How long a client has to send what a reader in that state waits for."""
    if state is IDLE:
        return limits.idle_seconds
    return limits.head_seconds if state is HEAD else limits.body_seconds


class Stall:
    """
    Tells a client that takes nothing of what it is sent from a slow one.

    :param seconds: how long a client may take nothing.
    :ivar until: when it will have taken nothing for so long, in seconds of the site's clock.
    :ivar untaken: how many bytes it had not taken at the last check.
    """

    __slots__ = ("_seconds", "_transport", "untaken", "until")

    def __init__(self, transport: Any, now: float, seconds: float) -> None:
        self._transport = transport
        self._seconds = seconds
        self.untaken = transports.untaken(transport)
        self.until = now + seconds

    def check(self, now: float) -> None:
        """See whether the client has taken anything since the last check."""
        before, self.untaken = self.untaken, transports.untaken(self._transport)
        if self.untaken < before:
            self.until = now + self._seconds
