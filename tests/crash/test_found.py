"""States that the store did not survive once, each in the shortest history that leads to it."""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator

from kvtwist.engine import Limits
from tests.crash.settings import Settings
from tests.support.engine import TestCase, failure_of, put
from tests.support.memorydisk import MemoryDisk, MemoryEngine, new_place, root_of
from tests.support.picks import EveryPick
from tests.support.powerloss import Change, Platter, Rename


class FoundTests(TestCase):
    def setUp(self) -> None:
        super().setUp()
        place = new_place()
        self.place = place.__enter__()
        self.addCleanup(place.__exit__, None, None, None)
        settings = Settings.made_from(random.Random(0)).applied()
        settings.__enter__()
        self.addCleanup(settings.__exit__, None, None, None)

    def started(self, platter: Platter) -> MemoryEngine:
        """A store on a disk."""
        disk = MemoryDisk(root_of(self.place), platter)
        engine = MemoryEngine(self.place, disk=disk, limits=Limits(pages=1))
        self.addCleanup(engine.die)
        engine.open()
        return engine

    def assert_holds(self, platter: Platter, *keys: bytes) -> None:
        engine = self.started(platter)
        self.assertEqual([key for key, _ in engine.items()], list(keys))
        engine.die()

    def assert_holds_after_a_power_loss(self, platter: Platter, *keys: bytes, stale: bool = False) -> None:
        """Whatever it leaves."""
        for left in _all_left(platter, stale):
            self.assert_holds(left, *keys)

    def test_a_new_directory_whose_name_was_not_synced(self) -> None:
        engine = self.started(Platter())
        engine.put(b"a", b"1")
        engine.die()
        self.assert_holds_after_a_power_loss(_platter(engine), b"a")

    def test_a_new_directory_of_a_process_that_was_killed_before_it_could_sync_its_name(self) -> None:
        for changes in range(8):
            first = self.started(Platter())
            first.die()
            engine = self.started(_replayed(_log(first)[:changes]))
            engine.put(b"a", b"1")
            engine.die()
            self.assert_holds_after_a_power_loss(_platter(engine), b"a")

    def test_a_manifest_that_a_killed_process_had_not_made_sure_of(self) -> None:
        # The next one reads it, and removes what it has replaced. Then the power fails, and its name is lost.
        engine = self.started(Platter())
        engine.put(b"a", b"1")
        engine.checkpoint()
        engine.put(b"b", b"1")
        engine.checkpoint()
        engine.die()
        platter = _replayed(_up_to_renaming(_log(engine), "manifest"))
        self.started(platter).die()
        self.assert_holds_after_a_power_loss(platter, b"a", b"b")

    def test_a_spare_that_is_a_segment_by_another_name(self) -> None:
        # A file system without a journal may leave a file with both names, when the power fails as it is renamed.
        engine = self.started(Platter())
        for key in (b"a", b"b"):
            engine.put(key, b"1")
            engine.checkpoint()
        engine.put(b"c", b"1")
        _disk(engine).fail("create", errno.ENOSPC, path="pages")
        engine.checkpoint()
        engine.die()
        for left in _all_left(_replayed(_up_to_renaming(_log(engine), "journal-spare"))):
            again = self.started(left)
            again.put(b"d", b"1")
            _disk(again).fail("create", errno.ENOSPC, path="pages")
            again.checkpoint()  # which begins a segment, and has nothing in pages
            again.die()
            self.assert_holds_after_a_power_loss(left, b"a", b"b", b"c", b"d")

    def test_a_segment_that_could_not_be_begun_and_comes_back(self) -> None:
        for call in ("write", "sync", "rename", "sync_directory"):
            engine = self.started(Platter())
            engine.put(b"a", b"1")
            _disk(engine).fail(call, errno.ENOSPC, path="store")
            engine.checkpoint()
            engine.put(b"b", b"1")
            engine.die()
            self.assert_holds_after_a_power_loss(_platter(engine), b"a", b"b")

    def test_a_batch_whose_sync_has_failed_and_that_was_read_by_the_next_process(self) -> None:
        # Its sync succeeds, and stores nothing: the kernel has marked as clean what it could not write.
        engine = self.started(Platter())
        engine.put(b"a", b"1")
        _disk(engine).fail("sync", errno.EIO, path="journal")
        self.assertIsNotNone(failure_of(engine.store.transact([], [put(b"b", bytes(2000))])))
        engine.die()
        platter = _platter(engine)
        self.assert_holds(platter, b"a", b"b")
        self.assert_holds_after_a_power_loss(platter, b"a", b"b")

    def test_a_new_segment_that_has_grown_over_what_another_file_had_stored(self) -> None:
        engine = self.started(Platter())
        engine.put(b"a", b"1")
        engine.checkpoint()
        engine.put(b"b", b"1")
        engine.die()
        following = self.started(_platter(engine))  # which uses up the spare, where there is one
        following.put(b"c", b"1")
        following.die()
        platter = _platter(engine).copy()
        again = self.started(_platter(engine))
        again.die()
        for change in _log(again):
            platter.apply(change)
            self.assert_holds_after_a_power_loss(platter, b"a", b"b", b"c", stale=True)


def _all_left(platter: Platter, stale: bool = False) -> Iterator[Platter]:
    every = EveryPick()
    for _ in range(500):
        yield platter.crash(every, stale=stale)
        if every.ended():
            return


def _disk(engine: MemoryEngine) -> MemoryDisk:
    assert isinstance(engine.disk, MemoryDisk)
    return engine.disk


def _platter(engine: MemoryEngine) -> Platter:
    return _disk(engine).platter


def _log(engine: MemoryEngine) -> list[Change]:
    return [change for change, _ in _disk(engine).log]


def _replayed(log: list[Change]) -> Platter:
    platter = Platter()
    for change in log:
        platter.apply(change)
    return platter


def _up_to_renaming(log: list[Change], name: str) -> list[Change]:
    """What there is up to the last time that such a file gets its name."""
    last = max(at for at, change in enumerate(log) if isinstance(change, Rename) and change.old.startswith(name))
    return log[: last + 1]
