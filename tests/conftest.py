"""Servers for the black-box tests: one a test in this reactor, or a process for each set of options."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_twisted

from tests.support.inprocess import Client, start
from tests.support.profiles import ALL_PROFILES, MAX_VALUE, Profile
from tests.support.server import Server
from tests.support.wire import Connection

StartServer = Callable[..., Server]
Connect = Callable[[], Connection]

_numbers = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Called by pytest."""
    parser.addoption("--rounds", type=int, default=100, help="how often tests that are marked `long` do the same again")


@pytest_twisted.async_yield_fixture
async def http(arguments: list[str], tmp_path: Path) -> AsyncIterator[Client]:
    """An empty server in this process, in memory, with the `arguments` that the module or test gives."""
    client = await start("--store", "memory", "--working-dir", str(tmp_path / "data"), *arguments)
    yield client
    await client.stop()


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """Start a process with some options, or give the one that runs with them, with all it holds by then."""
    servers: dict[tuple[str, ...], Server] = {}

    def serve(*options: str) -> Server:
        if options not in servers:
            servers[options] = Server(tmp_path_factory.mktemp("server") / "data", *options)
        return servers[options]

    yield serve
    for server in servers.values():
        server.kill()


@pytest.fixture(params=ALL_PROFILES, ids=lambda profile: str(profile.name))
def profile(request: pytest.FixtureRequest) -> Profile:
    """Each profile in turn."""
    assert isinstance(request.param, Profile)
    return request.param


@pytest.fixture
def server(profile: Profile, serve: StartServer) -> Server:
    """A process of that profile, with small limits."""
    return serve("--profile", profile.name, "--store", "memory", "--max-value", str(MAX_VALUE))


@pytest.fixture
def connect(server: Server) -> Iterator[Connect]:
    """Open connections to it, which are closed after the test."""
    connections: list[Connection] = []

    def connect() -> Connection:
        connections.append(Connection(server.address))
        return connections[-1]

    yield connect
    for connection in connections:
        connection.close()
    assert server.is_alive()


@pytest.fixture
def key() -> str:
    """A key that no other test uses, and that every profile takes."""
    return f"key{next(_numbers)}"
