"""
A server in memory for tests that block, on a port.

    @pytest.fixture
    def client():
        with memory_server() as url, Client(url) as client:
            yield client
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kvtwist.client._thread import blocking
from kvtwist.testing._server import MemoryServer


@contextmanager
def memory_server() -> Iterator[str]:
    """Serve the native profile from an empty store in memory, for as long as the block lasts; the URL."""

    async def start() -> tuple[MemoryServer, str]:
        server = MemoryServer()
        return server, server.listen()

    server, url = blocking(start)
    try:
        yield url
    finally:
        blocking(server.stop)
