"""
The data that every contender gets: the same keys, the same values, in the same orders, in every run.

Keys are 16 bytes, a hundred to a prefix of 11, spread over the whole space so that no store gains from shared digits
that real keys would not have. Values are 100 bytes that do not compress. Everything is computed from the index of a
record and a fixed seed, so that nothing needs to be kept in the memory that is being measured, and any record can be
checked at any time.
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
"""Keys to a prefix."""

_STAMP_BYTES: Final = 8
_NOISE: Final = Random(SEED).randbytes(2**20)
_TEXT: Final = b64encode(_NOISE)


@frozen
class Data:
    """:ivar size: how many records there are; they are numbered from 0 in key order."""

    size: int

    def key(self, index: int) -> bytes:
        """The key of a record; ascending with its number."""
        group, member = divmod(index, GROUP)
        return b"%s%05d" % (self.prefix(group), member * 997)

    def prefix(self, group: int) -> bytes:
        """What the keys of a hundred neighbours begin with, and no others."""
        return b"%010x/" % (group * (2**40 // (self.size // GROUP + 1)))

    def value(self, index: int, generation: int) -> bytes:
        """What is written under a key; `generation` tells the writes of one phase from those of another."""
        return b"%08d" % generation + _noise(index)

    def generation(self, index: int, value: bytes) -> int:
        """Which write of a record a value is from; :raises ValueError: it is none of this record's."""
        if value[_STAMP_BYTES:] != _noise(index):
            raise ValueError(f"record {index} holds {value[:32]!r}...")
        return int(value[:_STAMP_BYTES])

    def name(self, index: int) -> str:
        """The key of a record where it has to stand in a URL."""
        return self.key(index).decode().replace("/", "-")

    def json(self, index: int, generation: int) -> bytes:
        """A value that is a JSON string: as long, and as unlike others, as `value`."""
        start = _start(index)
        return b'"%08d%s"' % (generation, _TEXT[start : start + VALUE_BYTES - _STAMP_BYTES - 2])

    def shuffled(self, salt: int = 0) -> array[int]:
        """All records, in an order without order."""
        order = array("I", range(self.size))
        Random(SEED + salt).shuffle(order)
        return order

    def uniform(self, salt: int) -> Iterator[int]:
        """Records without end, each as likely as any other."""
        random = Random(SEED + salt).random
        size = self.size
        while True:
            yield int(random() * size)

    def skewed(self, salt: int) -> Iterator[int]:
        """
        Records without end, a few of them most of the time: Zipf's law with YCSB's exponent of 0.99, the popular ones
        spread over all keys. (Gray et al., "Quickly generating billion-record synthetic databases", 1994.)
        """
        theta = 0.99
        zeta = sum(1 / rank**theta for rank in range(1, self.size + 1))
        alpha = 1 / (1 - theta)
        eta = (1 - (2 / self.size) ** (1 - theta)) / (1 - (1 + 0.5**theta) / zeta)
        order = self.shuffled(salt)
        return _ranks(Random(SEED + salt), order, zeta, alpha, eta, 1 + 0.5**theta)


def _ranks(random: Random, order: array[int], zeta: float, alpha: float, eta: float, second: float) -> Iterator[int]:
    size = len(order)
    while True:
        point = random.random()
        weight = point * zeta
        rank = 0 if weight < 1 else 1 if weight < second else int(size * (eta * point - eta + 1) ** alpha)
        yield order[min(rank, size - 1)]


def _noise(index: int) -> bytes:
    start = _start(index)
    return _NOISE[start : start + VALUE_BYTES - _STAMP_BYTES]


def _start(index: int) -> int:
    return index * 2654435761 % (len(_NOISE) - VALUE_BYTES)
