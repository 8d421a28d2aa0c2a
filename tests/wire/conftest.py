"""HTTP is no profile's concern: all of this is asked of one, which has the most methods."""

from __future__ import annotations

import pytest

from tests.support.profiles import KEYS, Profile


@pytest.fixture
def profile() -> Profile:
    """In place of each profile in turn."""
    return KEYS
