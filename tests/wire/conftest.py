"""HTTP is no dialect's concern: all of this is asked of one, which has the most methods."""

from __future__ import annotations

import pytest

from tests.support.dialects import KEYS, Dialect


@pytest.fixture
def dialect() -> Dialect:
    """In place of each profile in turn."""
    return KEYS
