"""Numbers as people write them on a command line."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError

_KEYS = re.compile(r"(\d+)([km]?)")
_BYTES = re.compile(r"(\d+)(|[KMG]i?B?)", re.IGNORECASE)
_THOUSANDS = {"": 1, "k": 10**3, "m": 10**6}
_POWERS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}


def key_count(text: str) -> int:
    """`10k` or `1m`: hundreds, which is how many keys share a prefix; :raises ArgumentTypeError: it is not."""
    found = _KEYS.fullmatch(text)
    count = int(found[1]) * _THOUSANDS[found[2]] if found else 0
    if count < 1000 or count % 100:
        raise ArgumentTypeError(f"a number of keys such as 10k or 1m is expected, not {text!r}")
    return count


def byte_size(text: str) -> int:
    """`160MiB`; :raises ArgumentTypeError: it is no size."""
    found = _BYTES.fullmatch(text)
    if not found:
        raise ArgumentTypeError(f"a size such as 160MiB is expected, not {text!r}")
    return int(found[1]) * _POWERS[found[2][:1].lower()]
