"""The methods of HTTP that clients commonly use."""

from __future__ import annotations

from typing import Final

METHODS: Final = frozenset({b"GET", b"HEAD", b"PUT", b"POST", b"DELETE", b"OPTIONS", b"PATCH"})
"""Other methods are routed as well; metrics count them together, or clients could add series without limit."""
