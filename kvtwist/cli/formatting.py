"""Formatting of bytes, sizes and times for people and for JSON."""

from __future__ import annotations

import base64
import time

from kvtwist.words import counted

SHOWN = 60
"""Characters of a key or value in text output."""


def put_bytes(into: dict[str, object], name: str, data: bytes) -> None:
    """Add bytes to the fields of a JSON object: as text if they are UTF-8, else as base64 under `<name>_base64`."""
    try:
        into[name] = data.decode()
    except UnicodeDecodeError:
        into[f"{name}_base64"] = base64.b64encode(data).decode("ascii")


def encodable(text: str) -> str:
    """Escape the surrogates by which Python represents file names that are not UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def one_line(text: str) -> str:
    """Escape control and other unprintable characters, so that a terminal shows text as one line."""
    return "".join(c if c.isprintable() else _escaped(c) for c in encodable(text))


def shown(data: bytes, limit: int = SHOWN) -> str:
    """Quote bytes for text output, with escapes, cut after `limit` characters."""
    try:
        text = data[: limit + 4].decode() if len(data) > limit + 4 else data.decode()
    except UnicodeDecodeError:
        text = data[:limit].decode("latin-1")
    text = "".join(c if c.isprintable() and c not in '"\\' else _escaped(c) for c in text[:limit])
    return f'"{text}"' if len(data) <= limit else f'"{text}"...'


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii") if char not in '"\\' else f"\\{char}"


def size(count: int | None) -> str:
    """Format a number of bytes."""
    if count is None:
        return "?"
    value = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return counted(count, "byte") if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError


def moment(ms: int | None) -> str:
    """Format a time in milliseconds since the epoch."""
    if ms is None:
        return "never"
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ms // 1000)) + f".{ms % 1000:03d}Z"
    except (OverflowError, ValueError, OSError):
        return f"{ms} ms"


def key_range(first: bytes | None, stop: bytes | None) -> str:
    """Format a range of keys. A range that ends right after a key is shown with that key as its end."""
    start = f"keys from {shown(first or b'')}"
    if stop is None:
        return f"{start} on"
    return f"{start} to {shown(stop[:-1])}" if stop.endswith(b"\0") else f"{start} to before {shown(stop)}"
