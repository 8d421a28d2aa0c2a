"""
The records that every contender gets: the same keys and values in every run.

All is computed from a record's number and a fixed seed, so any answer can be checked at any time and the benchmark
itself holds next to nothing in memory.
"""

from __future__ import annotations

from array import array
from base64 import b64encode
from collections.abc import Iterator
from random import Random
from typing import Final

from attrs import frozen

SEED: Final = 20240229
KEY_BYTES: Final = 16
VALUE_BYTES: Final = 100
RECORD_BYTES: Final = KEY_BYTES + VALUE_BYTES
GROUP: Final = 100
"""Keys that share a prefix."""

_STAMP_BYTES: Final = 8
_NOISE: Final = b64encode(Random(SEED).randbytes(2**20))


@frozen
class Data:
    """:ivar size: how many records there are, numbered from 0 in key order."""

    size: int

    def key(self, index: int) -> bytes:
        """16 bytes that can stand in a URL, spread over the whole range so that no store gains from shared digits."""
        group, member = divmod(index, GROUP)
        return b"%b%05d" % (self.prefix(group), member * 997)

    def prefix(self, group: int) -> bytes:
        """The first 11 bytes of a hundred neighbouring keys, and of no others."""
        return b"%010x-" % (group * (2**40 // (self.size // GROUP + 1)))

    def value(self, index: int, generation: int = 0) -> bytes:
        """100 bytes of text that can stand in JSON; `generation` tells one write of a record from another."""
        return b"%08d" % generation + _noise(index)

    def generation(self, index: int, value: bytes) -> int:
        """The write that a value is from; :raises ValueError: it is not a value of this record."""
        if value[_STAMP_BYTES:] != _noise(index):
            raise ValueError(f"record {index} holds {value[:32]!r}...")
        return int(value[:_STAMP_BYTES])

    def shuffled(self) -> array[int]:
        """All record numbers in random order."""
        order = array("I", range(self.size))
        Random(SEED).shuffle(order)
        return order

    def uniform(self, salt: int, count: int) -> Iterator[int]:
        """Record numbers, each as likely as any other; `salt` selects the sequence."""
        random = Random(SEED + salt).random
        return (int(random() * self.size) for _ in range(count))


def _noise(index: int) -> bytes:
    start = index * 2654435761 % (len(_NOISE) - VALUE_BYTES)
    return _NOISE[start : start + VALUE_BYTES - _STAMP_BYTES]
