"""Limits of the operating system, and the garbage collector."""

from __future__ import annotations

import gc
import resource

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from kvtwist.ops.system import (
    RESERVED_FILES,
    WANTED_FILES,
    connections_within,
    raise_file_limit,
    spare_collector,
)


class SystemTests(SynchronousTestCase):
    def test_as_many_files_as_may_be(self) -> None:
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
        returned = raise_file_limit()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.assertEqual(soft, hard)
        self.assertEqual(returned, None if soft == resource.RLIM_INFINITY else soft)
        self.assertGreaterEqual(soft, min(before[1], WANTED_FILES))

    def test_connections_leave_the_store_its_files(self) -> None:
        for files, wanted, most in (
            (None, 50_000, 50_000),
            (65_536, 50_000, 50_000),
            (50_000 + RESERVED_FILES, 50_000, 50_000),
            (50_000 + RESERVED_FILES - 1, 50_000, 49_999),
            (1024, 50_000, 1024 - RESERVED_FILES),
            (1024, 100, 100),
            (RESERVED_FILES, 50_000, 1),
            (10, 50_000, 1),
        ):
            with capturedLogs() as events:
                self.assertEqual(connections_within(files, wanted), most)
            told = [formatEvent(event) for event in events]
            self.assertEqual(len(told), most < wanted)
            if told:
                self.assertIn(f"at most {most} connections instead of {wanted}", told[0])

    def test_existing_objects_are_frozen(self) -> None:
        self.addCleanup(gc.unfreeze)
        there = [object() for _ in range(10)]
        garbage: list[object] = []
        garbage.append(garbage)
        before = gc.get_freeze_count()
        spare_collector()
        self.assertGreater(gc.get_freeze_count(), before)
        self.assertFalse(any(found is there for found in gc.get_objects()))
