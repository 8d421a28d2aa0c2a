"""Sizes so small that a few transactions are enough for pages, runs, segments and spares to come and go."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from attrs import evolve, frozen

from kvtwist.engine import Limits, compaction, journal, run_writer
from kvtwist.engine.memtable import ENTRY_COST


@frozen
class Settings:
    """
    How a store is set up in one history.

    :ivar sync: whether transactions are acknowledged once they are synced, or once they are written.
    :ivar stale: whether a power loss may let a file grow over what other files had stored.
    :ivar failing_syncs: whether syncs of the journal may fail.
    :ivar scale: what the engine's own constants are to be.
    :ivar salts: from which the journal's salts come.
    """

    sync: bool
    stale: bool
    failing_syncs: bool
    limits: Limits
    scale: list[tuple[Any, str, float]]
    salts: int

    @property
    def reserve(self) -> int:
        """The size of the reserve of disk space."""
        return 800 * (self.salts % 2)

    @classmethod
    def made_from(cls, choices: random.Random) -> Settings:
        """Some at random."""
        settings = cls(
            sync=choices.random() < 0.75,
            stale=choices.random() < 0.2,
            failing_syncs=choices.random() < 0.3,
            limits=Limits(
                pages=choices.choice([1, 2000]),
                memtables=ENTRY_COST * choices.randint(8, 40),
                unsynced=choices.choice([2000, 20_000]),
                journal=choices.randint(1000, 6000),
            ),
            scale=[
                (run_writer, "PAGE_SIZE", choices.choice([150, 400, 900])),
                (compaction, "SMALL", 0),
                (compaction, "FULL_SHARE", choices.choice([0.7, 3])),
                (compaction, "MAX_RUNS", choices.randint(1, 3)),
                (journal, "EXTENT", choices.choice([100, 700, 3000])),
                (journal, "SPARE_SIZE", choices.choice([500, 1200, 10**6])),
            ],
            salts=choices.getrandbits(32),
        )
        if settings.salts % 4 == 0:  # a transaction with a few operations is applied, and undone, in steps
            settings = evolve(settings, limits=evolve(settings.limits, step=2))
        return settings

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Run a block with the engine's constants set, and with random numbers that are the same each time."""
        with ExitStack() as patches:
            for module, name, value in self.scale:
                patches.enter_context(mock.patch.object(module, name, value))
            patches.enter_context(mock.patch.object(os, "urandom", random.Random(self.salts).randbytes))
            yield
