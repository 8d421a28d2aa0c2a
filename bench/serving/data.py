"""
Keys and values, computed from a number alike here and in wrk's scripts, so that any answer can be checked at any time.

A key is 12 letters and digits, which is a key in every dialect. A value is 100 bytes of text that stands in JSON and in
a plain body as it is.
"""

from __future__ import annotations

from array import array
from base64 import b64encode
from pathlib import Path
from random import Random
from typing import Final

from bench.workload import SEED, VALUE_BYTES

KEYS: Final = 100_000
KEY_BYTES: Final = 12
LARGE_BYTES: Final = 2**20
DRAWS: Final = 500_000
"""How many random choices of a key there are; then they begin again."""
STRIDE: Final = 2654435761
NOISE: Final = b64encode(Random(SEED).randbytes(48 * 1024))
SPAN: Final = len(NOISE) - VALUE_BYTES


def key(index: int) -> bytes:
    """Of a record."""
    return b"key%09d" % index


def value(index: int) -> bytes:
    """What is written under a key, whenever it is written."""
    start = index * STRIDE % SPAN
    return NOISE[start : start + VALUE_BYTES]


def large_value(index: int) -> bytes:
    """The same with a mebibyte."""
    return b"%08d" % index + (NOISE * (LARGE_BYTES // len(NOISE)))[8:]


class Draws:
    """
    Keys drawn at random, each as likely as any other, in a file for wrk's scripts.

    :ivar order: which.
    :ivar keys: the file with the keys, one behind the other.
    :ivar noise: the file with what values are cut from.
    """

    def __init__(self, place: Path) -> None:
        random = Random(SEED + 7).random
        self.order = array("I", (int(random() * KEYS) for _ in range(DRAWS)))
        self.keys = place / "keys"
        self.keys.write_bytes(b"".join(map(key, self.order)))
        self.noise = place / "noise"
        self.noise.write_bytes(NOISE)

    def drawn(self, start: int, count: int) -> list[int]:
        """
        Those that a script which begins at `start` asks for first: not the very first of them, which wrk takes to look
        at, and never sends.
        """
        return [self.order[at % DRAWS] for at in range(start + 1, start + 1 + min(count, DRAWS))]
