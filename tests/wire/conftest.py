"""HTTP itself is the same in every profile, so these tests use one: `keys`, which has the most methods."""

from __future__ import annotations

import pytest

from tests.support.profiles import KEYS, Profile


@pytest.fixture
def profile() -> Profile:
    """In place of each profile in turn."""
    return KEYS
