"""
Fixtures for pytest, with pytest-twisted. They are there for a suite that imports them, in its conftest.py:

    from kvtwist.testing.fixtures import kvtwist_client, kvtwist_server

This is no plugin that pytest loads by itself: it would be loaded for every suite in the same environment.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_twisted

from kvtwist.client import Client
from kvtwist.testing._server import MemoryServer


@pytest_twisted.async_yield_fixture  # type: ignore[untyped-decorator]
async def kvtwist_server() -> AsyncIterator[MemoryServer]:
    """An empty server in memory, for one test."""
    async with MemoryServer() as server:
        yield server


@pytest.fixture
def kvtwist_client(kvtwist_server: MemoryServer) -> Client:
    """A client of that server."""
    return kvtwist_server.client()
