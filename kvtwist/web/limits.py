"""How much a client may send, and how long it may take."""

from __future__ import annotations

from attrs import frozen


@frozen
class WebLimits:
    """
    :ivar head: largest head of a request, in bytes; past it 431.
    :ivar target: longest request target, in bytes; past it 414.
    :ivar head_seconds: how long a head may take from its first byte to its last; past it 408.
    :ivar body_seconds: how long each 64 KiB of a body may take, and its rest; past it 408.
    :ivar idle_seconds: how long a connection may wait for its next request, or for its client to read a response.
    :ivar connections: how many there may be; past it 503.

    Deadlines are checked once a second, so each may be exceeded by a second.
    """

    head: int = 64 * 1024
    target: int = 16 * 1024
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    idle_seconds: float = 60.0
    connections: int = 50_000
