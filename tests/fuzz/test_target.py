"""A few thousand inputs of the kind that `tox -e fuzz` runs by the million: the corpus, and what chance makes of it."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.fuzz.target import PIECES, Target, Unexpected, seeds

RUNS = 3000


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    """The front, watched."""
    target = Target()
    with target.watching():
        yield target


def test_the_corpus_in_every_manner(target: Target) -> None:
    for number, seed in enumerate(seeds()):
        target.run(seed)
        target.run(seed[:1] + bytes((number % 251, number % 128)) + seed[3:])


def test_what_chance_makes_of_it(target: Target) -> None:
    dice = random.Random(7)
    known = seeds()
    for _ in range(RUNS):
        data = bytearray(dice.choice(known))
        for _ in range(dice.randrange(6)):
            at = dice.randrange(len(data) + 1)
            match dice.randrange(5):
                case 0:
                    data[at : at + 1] = dice.randbytes(1)
                case 1:
                    data[at:at] = bytes((255, dice.randrange(len(PIECES))))
                case 2:
                    del data[at : at + dice.randrange(20)]
                case 3:
                    data[at:at] = dice.choice(known)[3:]
                case _:
                    data[1:3] = dice.randbytes(2)
        try:
            target.run(bytes(data))
        except Unexpected as error:
            raise AssertionError(f"of {bytes(data)!r}") from error
