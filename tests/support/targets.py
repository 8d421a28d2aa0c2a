"""Request targets that a browser would never send."""

from __future__ import annotations

from typing import Final

BROKEN_SEGMENTS: Final = (
    "%",
    "%4",
    "%zz",
    "a%",
    "%u0041",
    "%ff",
    "a%c3",
    "%c3%28",
    "%c0%af",
    "%ed%a0%80",
    "%f5%80%80%80",
)
"""Path segments whose percent-encoding, or the UTF-8 in it, is broken."""

_WITHOUT_BODY: Final = ("GET", "HEAD", "OPTIONS", "TRACE", "get")


def each(*methods_and_targets: str) -> list[tuple[str, str]]:
    """Cases from lines of a method and the targets that it is sent to."""
    return [(method, target) for line in methods_and_targets for method, *rest in [line.split()] for target in rest]


def body_for(method: str, body: bytes) -> bytes | None:
    """The body, if a request with that method usually has one."""
    return None if method in _WITHOUT_BODY else body
