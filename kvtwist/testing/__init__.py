"""
A kvtwist server within a test: the real store, in memory, and the real server.

    async with MemoryServer() as server:
        client = server.client()
        await client.put("a", "1")

`kvtwist.testing.fixtures` has the same as fixtures for pytest.
"""

from __future__ import annotations

from kvtwist.testing._server import MemoryServer
from kvtwist.testing._time import ManualTime

__all__ = ["ManualTime", "MemoryServer"]
