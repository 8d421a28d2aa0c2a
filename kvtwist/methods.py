"""The methods of HTTP that clients commonly use."""

from __future__ import annotations

from typing import Final

METHODS: Final = frozenset({b"GET", b"HEAD", b"PUT", b"POST", b"DELETE", b"OPTIONS", b"PATCH"})
"""Others are answered as well, but metrics count them together, as each name would be a series of its own."""
