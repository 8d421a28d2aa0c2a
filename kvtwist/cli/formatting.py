"""Bytes, sizes and times, for people and for JSON."""

from __future__ import annotations

import base64
import time

from kvtwist.words import counted

SHOWN = 60
"""How many characters of a key or a value people are shown."""


def put_bytes(into: dict[str, object], name: str, data: bytes) -> None:
    """Put bytes into what becomes a JSON object: as text where they are UTF-8, else in base64 under another name."""
    try:
        into[name] = data.decode()
    except UnicodeDecodeError:
        into[f"{name}_base64"] = base64.b64encode(data).decode("ascii")


def encodable(text: str) -> str:
    """Text that can be encoded. Names of files are bytes; where these are not UTF-8, Python's text for them is not."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def one_line(text: str) -> str:
    """Text that may hold names from anywhere, as a line that a terminal takes for nothing else."""
    return "".join(c if c.isprintable() else _escaped(c) for c in encodable(text))


def shown(data: bytes, limit: int = SHOWN) -> str:
    """Bytes in a line for people: in quotes, with escapes, cut short where they are long."""
    try:
        text = data[: limit + 4].decode() if len(data) > limit + 4 else data.decode()
    except UnicodeDecodeError:
        text = data[:limit].decode("latin-1")
    text = "".join(c if c.isprintable() and c not in '"\\' else _escaped(c) for c in text[:limit])
    return f'"{text}"' if len(data) <= limit else f'"{text}"...'


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii") if char not in '"\\' else f"\\{char}"


def size(count: int | None) -> str:
    """A number of bytes."""
    if count is None:
        return "?"
    value = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return counted(count, "byte") if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError


def moment(ms: int | None) -> str:
    """A time in milliseconds since the epoch."""
    if ms is None:
        return "never"
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ms // 1000)) + f".{ms % 1000:03d}Z"
    except (OverflowError, ValueError, OSError):
        return f"{ms} ms"


def key_range(first: bytes | None, stop: bytes | None) -> str:
    """A range of keys. One that ends right after a key is told with that key."""
    start = f"keys from {shown(first or b'')}"
    if stop is None:
        return f"{start} on"
    return f"{start} to {shown(stop[:-1])}" if stop.endswith(b"\0") else f"{start} to before {shown(stop)}"
