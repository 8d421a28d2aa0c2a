"""Puts what was measured into a document, between two marks, and leaves alone what people wrote around them."""

from __future__ import annotations

from pathlib import Path


def write_section(document: Path, name: str, text: str) -> None:
    """Replace a generated section, or add it at the end. The document is made where there is none."""
    begin, end = f"<!-- {name}: generated from here -->", f"<!-- {name}: to here -->"
    section = f"{begin}\n{text.strip()}\n{end}"
    old = document.read_text() if document.exists() else "# Benchmarks\n"
    before, found, rest = old.partition(begin)
    if found:
        _, closed, after = rest.partition(end)
        if not closed:
            raise ValueError(f"{document}: has {begin!r}, but not {end!r}")
        new = before + section + after
    else:
        new = f"{old.rstrip()}\n\n{section}\n"
    document.parent.mkdir(parents=True, exist_ok=True)
    document.write_text(new)
