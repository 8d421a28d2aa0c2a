"""Fixtures for tests with real processes: random choices, and how often to repeat."""

from __future__ import annotations

import os
import random
import secrets

import pytest


@pytest.fixture
def dice() -> random.Random:
    """Chooses the requests; their timing is not repeatable. The seed of a failure is in its captured output."""
    seed = int(os.environ.get("KVTWIST_TEST_SEED") or secrets.randbits(32))
    print(f"KVTWIST_TEST_SEED={seed}")
    return random.Random(seed)


@pytest.fixture(params=["few", pytest.param("many", marks=pytest.mark.long)])
def rounds(request: pytest.FixtureRequest) -> int:
    """How often a test repeats."""
    many: int = request.config.getoption("--rounds")
    return many if request.param == "many" else 5
