"""A full disk: deletions always go on, and always free disk space, thanks to the reserve."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Sequence
from itertools import count

from twisted.logger import capturedLogs, formatEvent

from kvtwist.engine import Limits, run_writer
from kvtwist.engine.disk_space import (
    FOR_PAGES,
    PIECES,
    SHARE,
    SPARE,
    DiskSpace,
)
from kvtwist.engine.frame import Change, Transaction
from kvtwist.engine.housekeeping import MAKE_SPACE_SECONDS
from kvtwist.engine.journal import JournalWriter
from kvtwist.model import DATA, Clear, Delete, NoRoom
from tests.support.engine import Engine, EngineCase, FaultyDisk, SmallDisk, TestCase, failure_of, put

MIB = 2**20


class DiskSpaceTests(TestCase):
    def disk_space(self, capacity: int, most: int) -> tuple[DiskSpace, SmallDisk]:
        disk = SmallDisk(self.path, capacity)
        return DiskSpace(disk, str(self.path), most), disk

    def pieces(self) -> dict[str, int]:
        return {path.name: path.stat().st_size for path in self.path.iterdir() if path.name in PIECES}

    def test_its_size(self) -> None:
        for capacity, most, size in ((10_000, 0, 0), (10**6, 8000, 8000), (48_000, 8000, 48_000 // SHARE)):
            disk_space, _ = self.disk_space(capacity, most)
            disk_space.look()
            self.assertFalse(disk_space.full)
            self.assertEqual(sum(self.pieces().values()), size // len(PIECES) * len(PIECES))

    def test_it_is_larger_where_the_manifest_is(self) -> None:
        (self.path / "manifest-00000000000000000007").write_bytes(bytes(5000))
        disk_space, _ = self.disk_space(10**6, 8000)
        disk_space.look()
        self.assertEqual(disk_space.size, 24_000)

    def test_what_is_there_is_used_on(self) -> None:
        disk_space, disk = self.disk_space(10**6, 8000)
        disk_space.look()
        calls: list[str] = []
        self.patch(disk, "before", lambda call, path: calls.append(call))
        again = DiskSpace(disk, str(self.path), 8000)
        again.look()
        self.assertTrue(again.is_whole)
        self.assertEqual(calls, [])
        (self.path / PIECES[3]).write_bytes(b"a part of it")
        DiskSpace(disk, str(self.path), 8000).look()
        self.assertEqual(set(self.pieces().values()), {1000})

    def test_it_is_given_up_piece_by_piece_after_the_spare_segment(self) -> None:
        (self.path / SPARE).write_bytes(b"")
        disk_space, _ = self.disk_space(10**6, 8000)
        disk_space.look()
        self.assertTrue(disk_space.release_piece(len(PIECES)))
        self.assertFalse((self.path / SPARE).exists())
        self.assertFalse(disk_space.full)
        self.assertFalse(disk_space.release_piece(len(PIECES)))
        for left in reversed(range(FOR_PAGES, len(PIECES))):
            self.assertTrue(disk_space.release_piece(FOR_PAGES))
            self.assertEqual(len(self.pieces()), left)
            self.assertTrue(disk_space.full)
            self.assertEqual(disk_space.is_low, left == FOR_PAGES)
        self.assertFalse(disk_space.release_piece(FOR_PAGES))
        self.assertTrue(disk_space.refill())
        self.assertEqual(len(self.pieces()), len(PIECES))

    def test_it_is_whole_before_the_disk_is_not_full_any_more(self) -> None:
        disk_space, disk = self.disk_space(10**6, 8000)
        disk_space.look()
        disk_space.refuse(20_000)
        for capacity, full in ((8000, True), (15_999, True), (40_000, True), (48_000, False)):
            disk.capacity = capacity
            disk_space.look()
            self.assertEqual(disk_space.full, full, capacity)
        disk_space.refuse(1)
        disk.capacity = disk.used() + 8000
        disk_space.look()
        self.assertFalse(disk_space.full)

    def test_nothing_of_it_is_made_again_while_it_is_in_use(self) -> None:
        disk_space, _ = self.disk_space(10**6, 8000)
        disk_space.look()
        self.assertTrue(disk_space.release_all())
        self.assertTrue(disk_space.release_all(), "for another one that frees space")
        disk_space.look()
        disk_space.restore()
        self.assertEqual((self.pieces(), disk_space.refill(), disk_space.full), ({}, False, True))
        disk_space.restore()
        self.assertTrue(disk_space.is_whole)
        self.assertFalse(disk_space.full)

    def test_a_piece_for_which_there_is_no_room_leaves_nothing(self) -> None:
        disk = FaultyDisk()
        for call in ("create", "extend"):
            disk.fail(call, errno.ENOSPC, path=PIECES[2])
            disk_space = DiskSpace(disk, str(self.path), 8000)
            disk_space.look()
            self.assertTrue(disk_space.full)
            self.assertEqual(sorted(self.pieces()), list(PIECES[:2]))
            disk_space.look()
            self.assertFalse(disk_space.full)
            self.assertEqual(disk.paths, {})
            for name in PIECES:
                (self.path / name).unlink()


class JournalTests(TestCase):
    """What the journal takes of the room, and what it leaves."""

    def setUp(self) -> None:
        super().setUp()
        self.disk = SmallDisk(self.path, 48_000)
        self.disk_space = DiskSpace(self.disk, str(self.path), 8000)
        self.disk_space.look()
        self.writer = JournalWriter(self.disk, str(self.path), 1, True, self.disk_space)
        self.addCleanup(self.writer.close)
        self.revision = 0

    def write(self, changed: Change) -> int:
        size = self.writer.append([Transaction(self.revision + 1, 0, [changed])])
        self.revision += 1
        return size

    def test_what_is_written_leaves_room_for_a_checkpoint_of_all_of_it(self) -> None:
        written = 0
        with self.assertRaises(NoRoom):
            while True:
                written += self.write(Change(DATA, b"k", bytes(400)))
        free = self.disk.capacity - self.disk.used()
        self.assertGreater(written, 15_000)
        self.assertGreaterEqual(free + self.disk_space.size // 4 + 1000, written)
        self.assertTrue(self.disk_space.is_whole)
        self.writer.rotate()
        with self.assertRaises(NoRoom):
            self.write(Change(DATA, b"k", bytes(400)))
        self.writer.drop(self.revision)
        self.write(Change(DATA, b"k", bytes(400)))

    def test_what_belongs_to_the_reserve_is_for_deletions(self) -> None:
        self.write(Change(DATA, b"k", bytes(400)))
        for _ in range(3):
            self.disk_space.release_piece()
        ballast = self.path / "ballast"
        ballast.write_bytes(bytes(self.disk.capacity - self.disk.used() - 1200))  # there is room for two of the three
        self.assertRaises(NoRoom, self.write, Change(DATA, b"k", bytes(20)))
        self.write(Change(DATA, b"k"))
        ballast.unlink()
        self.write(Change(DATA, b"k", bytes(20)))
        self.assertTrue(self.disk_space.is_whole)

    def test_deletions_take_half_of_it(self) -> None:
        self.write(Change(DATA, b"k", bytes(400)))
        self.disk.capacity = self.disk.used()
        written = 0
        with self.assertRaises(NoRoom):
            while True:
                written += self.write(Change(DATA, b"k"))
        self.assertGreater(written, self.disk_space.size * 0.4)
        self.assertTrue(self.disk_space.is_low)
        self.assertEqual(len([path for path in self.path.iterdir() if path.name in PIECES]), FOR_PAGES)


class FullDiskCase(EngineCase):
    """A disk that is soon full, of which the store keeps a part."""

    disk: SmallDisk
    capacity = 100_000

    def setUp(self) -> None:
        super().setUp()
        self.patch(run_writer, "PAGE_SIZE", 1500)

    def make_engine(self) -> Engine:
        self.disk = SmallDisk(self.path / "store", self.capacity)
        limits = Limits(pages=MIB, memtables=MIB, journal=10**9)
        return Engine(self.path / "store", disk=self.disk, limits=limits, reserve=10**6)

    def fill(self, size: int = 300) -> dict[bytes, bytes]:
        """Write until there is no room."""
        kept: dict[bytes, bytes] = {}
        for number in count():
            key, value = b"%05d" % number, bytes([number % 256]) * size
            if isinstance(failure_of(self.engine.store.transact([], [put(key, value)])), NoRoom):
                return kept
            kept[key] = value
        raise AssertionError("the disk is never full")

    def pass_time(self, seconds: int = 20) -> None:
        self.engine.clock.pump([1.0] * seconds)

    def assert_holds(self, kept: dict[bytes, bytes]) -> None:
        self.assertEqual(dict(self.engine.items()), kept)
        self.assertLessEqual(self.disk.used(), self.capacity)


class FullDiskTests(FullDiskCase):
    def test_most_of_the_disk_can_be_used(self) -> None:
        kept = self.fill()
        self.assertGreater(sum(map(len, kept.values())), 0.7 * self.capacity)
        self.assert_holds(kept)

    def test_whatever_is_deleted_in_whatever_order_leads_to_room(self) -> None:
        for seed, size in enumerate((60, 300, 1500)):
            choices = random.Random(seed)
            kept = self.fill(size)
            doomed = choices.sample(sorted(kept), int(len(kept) * choices.choice([0.5, 0.9, 1.0])))
            for key in doomed:
                self.engine.delete(key)
                del kept[key]
                if choices.random() < 0.02:
                    self.engine.clock.advance(1)
                if choices.random() < 0.01:
                    self.engine.reopen()
            self.pass_time()
            self.assert_holds(kept)
            self.assertFalse(self.engine.storage.disk_space.full)
            again = {b"again%d" % number: b"x" * size for number in range(len(doomed) // 2)}
            for key, value in again.items():
                self.engine.put(key, value)
            self.assert_holds(kept | again)
            self.engine.reopen()
            self.assert_holds(kept | again)
            for key in kept | again:
                self.engine.delete(key)
            self.pass_time()

    def test_each_way_to_remove_everything_leads_to_room(self) -> None:
        def expire(kept: dict[bytes, bytes]) -> None:
            self.engine.clock.advance(100_000)

        def clear(kept: dict[bytes, bytes]) -> None:
            self.engine.do(Clear(DATA))

        def delete_at_once(kept: dict[bytes, bytes]) -> None:
            self.engine.do(*[Delete(DATA, key) for key in kept])

        ways: list[Callable[[dict[bytes, bytes]], None]] = [expire, clear, delete_at_once]
        first = 0
        for way in ways:
            kept: dict[bytes, bytes] = {}
            for number in count():
                change = put(b"%05d" % number, bytes(300), ttl_ms=50_000_000)
                if isinstance(failure_of(self.engine.store.transact([], [change])), NoRoom):
                    break
                kept[change.key] = change.value
            first = first or len(kept)
            self.assertGreater(len(kept), 0.9 * first)
            way(kept)
            self.pass_time()
            self.assert_holds({})
            self.assertFalse(self.engine.storage.disk_space.full)

    def test_what_finds_no_room_waits_for_what_was_deleted_just_before(self) -> None:
        kept = self.fill(1500)
        for key in sorted(kept)[:10]:
            self.engine.delete(key)
        self.engine.clock.advance(MAKE_SPACE_SECONDS)
        for number in range(4):
            self.engine.put(b"again%d" % number, bytes(1500))

    def test_what_is_written_over_makes_room_too(self) -> None:
        kept = self.fill()
        for key in sorted(kept)[::2]:
            done = self.engine.store.transact([], [Delete(DATA, key), put(key, b"short")])
            self.assertIsNone(failure_of(done))
            kept[key] = b"short"
        self.pass_time()
        self.assert_holds(kept)
        self.engine.put(b"more", bytes(10_000))

    def test_where_others_have_filled_the_disk(self) -> None:
        kept = {b"%05d" % number: bytes(300) for number in range(150)}
        for key, value in kept.items():
            self.engine.put(key, value)
        self.disk.capacity = self.disk.used()
        self.assertIsInstance(failure_of(self.engine.store.transact([], [put(b"large", bytes(10**5))])), NoRoom)
        for key in sorted(kept)[:120]:
            self.engine.delete(key)
            del kept[key]
        self.pass_time()
        self.assertEqual(dict(self.engine.items()), kept)
        for number in range(50):
            self.engine.put(b"again%d" % number, bytes(300))

    def test_the_log_says_once_that_it_is_full_and_once_that_it_is_over(self) -> None:
        with capturedLogs() as events:
            kept = self.fill()
            for _ in range(50):
                failure_of(self.engine.store.transact([], [put(b"more", bytes(300))]))
            self.pass_time()
            told = self.told(events)
            self.assertEqual(told, ["the disk is full"])
            self.engine.do(Clear(DATA))
            self.pass_time()
            self.assertEqual(self.told(events), ["the disk is full", "there is free disk space"])
        self.assertGreater(len(kept), 100)

    def told(self, events: Sequence[object]) -> list[str]:
        lines = [formatEvent(event) for event in events]  # type: ignore[arg-type]
        return [part for line in lines for part in ("the disk is full", "there is free disk space") if part in line]

    def test_what_has_found_no_room_is_not_tried_over_and_over(self) -> None:
        self.fill()
        self.pass_time()
        checkpoints = self.engine.store.figures().checkpoints
        for number in range(100):
            failure_of(self.engine.store.transact([], [put(b"more%d" % number, bytes(3000))]))
        self.assertLessEqual(self.engine.store.figures().checkpoints - checkpoints, 1)

    def test_the_reserve_is_no_part_of_the_store(self) -> None:
        self.engine.put(b"k", b"v")
        for name in PIECES:
            self.assertIn(name, self.engine.files())
        self.engine.die()
        for name in PIECES:
            (self.engine.path / name).unlink()
        self.engine.open()
        self.assertEqual(self.engine.items(), [(b"k", b"v")])
        self.assertTrue(self.engine.storage.disk_space.is_whole)
