"""Everything here holds for both fronts."""

from __future__ import annotations

from functools import partial

import pytest

from tests.conftest import StartServer


@pytest.fixture(scope="session", params=["own", "stock"])
def front(request: pytest.FixtureRequest) -> str:
    """What `--http` calls it."""
    return str(request.param)


@pytest.fixture(scope="session")
def serve(front: str, serve: StartServer) -> StartServer:
    """Start a process with one of the fronts, or give the one that runs with the same options."""
    return partial(serve, "--http", front)
