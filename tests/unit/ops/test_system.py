"""What the process asks of what it runs on."""

from __future__ import annotations

import gc
import resource

from twisted.trial.unittest import SynchronousTestCase

from kvtwist.ops.system import WANTED_FILES, raise_file_limit, spare_collector


class SystemTests(SynchronousTestCase):
    def test_as_many_files_as_may_be(self) -> None:
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
        raise_file_limit()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.assertEqual(soft, hard)
        self.assertGreaterEqual(soft, min(before[1], WANTED_FILES))

    def test_what_is_there_is_searched_for_garbage_once_and_not_again(self) -> None:
        self.addCleanup(gc.unfreeze)
        there = [object() for _ in range(10)]
        garbage: list[object] = []
        garbage.append(garbage)
        before = gc.get_freeze_count()
        spare_collector()
        self.assertGreater(gc.get_freeze_count(), before)
        self.assertFalse(any(found is there for found in gc.get_objects()))
