"""Numbers with their nouns, for messages and log lines."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """How many there are of something: "1 page", "2 pages"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
