"""The double of the disk: it does what the real one does, and loses what a real one may lose, and no more."""

from __future__ import annotations

import random
from pathlib import Path

from kvtwist.engine.disk import Disk
from tests.support.engine import TestCase
from tests.support.memorydisk import MemoryDisk
from tests.support.picks import EveryPick
from tests.support.powerloss import SECTOR, Platter

ROOT = "/disk"
OLD, NEW = b"o", b"n"


def _everything_left(platter: Platter, ordered: bool = False, stale: bool = False) -> list[dict[str, bytes]]:
    """Files by name, of each state that a power loss may leave."""
    every = EveryPick()
    found: list[dict[str, bytes]] = []
    while True:
        left = platter.crash(every, ordered, stale)
        files = {name: bytes(left.content(file)) for name, file in left.names[""].items()}
        if files not in found:
            found.append(files)
        if every.ended():
            return found


class PowerLossTests(TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.platter = Platter()
        self.disk = MemoryDisk(ROOT, self.platter)

    def stored(self, name: str, content: bytes) -> int:
        """A file that is on the disk itself, open for writing over it."""
        self.disk.save(f"{ROOT}/{name}", content)
        self.disk.sync_directory(ROOT)
        return self.disk.reopen(f"{ROOT}/{name}")

    def left(self, name: str = "f", ordered: bool = False, stale: bool = False) -> set[bytes | None]:
        """What a file may hold; None where it may be gone."""
        return {files.get(name) for files in _everything_left(self.platter, ordered, stale)}

    def test_what_is_synced_stays(self) -> None:
        self.stored("f", OLD)
        self.assertEqual(self.left(), {OLD})
        self.assertFalse(self.platter.unsynced)

    def test_a_synced_file_whose_name_is_not_may_be_gone(self) -> None:
        self.disk.save(f"{ROOT}/f", NEW)
        self.assertEqual(self.left(), {None, NEW})

    def test_each_sector_is_lost_or_kept_by_itself(self) -> None:
        descriptor = self.stored("f", OLD * 2 * SECTOR)
        self.disk.write(descriptor, NEW * 2 * SECTOR)
        self.assertEqual(self.left(), {a * SECTOR + b * SECTOR for a in (OLD, NEW) for b in (OLD, NEW)})

    def test_a_sector_is_never_torn(self) -> None:
        descriptor = self.stored("f", OLD * 100)
        self.disk.write(descriptor, NEW * 50)
        self.assertEqual(self.left(), {OLD * 100, NEW * 50 + OLD * 50})

    def test_a_later_write_may_overtake_an_earlier_one(self) -> None:
        descriptor = self.stored("f", OLD * 2 * SECTOR)
        self.disk.write(descriptor, NEW * SECTOR)
        self.disk.write(descriptor, NEW * SECTOR)
        self.assertIn(OLD * SECTOR + NEW * SECTOR, self.left())

    def test_a_file_may_have_grown_over_zeros(self) -> None:
        descriptor = self.stored("f", OLD * SECTOR)
        self.disk.write(descriptor, OLD * SECTOR)
        self.disk.write(descriptor, NEW * SECTOR)
        grown = {OLD * SECTOR, OLD * SECTOR + bytes(SECTOR), OLD * SECTOR + NEW * SECTOR}
        self.assertEqual(self.left(), grown)

    def test_or_over_what_another_file_had_stored(self) -> None:
        self.stored("other", b"x" * 3 * SECTOR)
        descriptor = self.stored("f", OLD * SECTOR)
        self.disk.write(descriptor, OLD * SECTOR)
        self.disk.write(descriptor, NEW * SECTOR)
        self.assertIn(OLD * SECTOR + b"x" * SECTOR, self.left(stale=True))

    def test_a_cut_may_be_undone(self) -> None:
        descriptor = self.stored("f", OLD * 2 * SECTOR)
        self.disk.cut(descriptor, SECTOR)
        self.assertEqual(self.left(), {OLD * SECTOR, OLD * 2 * SECTOR, OLD * SECTOR + bytes(SECTOR)})

    def test_a_sync_behind_one_that_failed_stores_nothing(self) -> None:
        descriptor = self.stored("f", OLD * SECTOR)
        self.disk.write(descriptor, NEW * SECTOR)
        self.disk.fail("sync", 5)
        self.assertRaises(OSError, self.disk.sync, descriptor)
        self.disk.sync(descriptor)
        self.assertEqual(self.left(), {OLD * SECTOR, NEW * SECTOR})
        self.disk.cut(descriptor, 0)
        self.disk.write(descriptor, b"w" * SECTOR)
        self.disk.sync(descriptor)
        self.assertEqual(self.left(), {b"w" * SECTOR}, "what is written again is stored")

    def test_what_a_sync_has_stored_between_two_that_failed_stays(self) -> None:
        descriptor = self.stored("f", OLD * SECTOR * 2)
        self.disk.write(descriptor, NEW * SECTOR)
        self.disk.fail("sync", 5)
        self.assertRaises(OSError, self.disk.sync, descriptor)
        self.disk.cut(descriptor, 0)
        self.disk.write(descriptor, b"w" * SECTOR)
        self.disk.sync(descriptor)
        self.disk.write(descriptor, b"x" * SECTOR)
        self.disk.fail("sync", 5)
        self.assertRaises(OSError, self.disk.sync, descriptor)
        self.disk.sync(descriptor)
        kept = b"w" * SECTOR
        self.assertEqual(self.left(), {kept, kept + bytes(SECTOR), kept + b"x" * SECTOR})

    def test_a_renaming_over_another_file_leaves_one_of_them(self) -> None:
        self.stored("f", OLD)
        self.stored("f.new", NEW)
        self.disk.rename(f"{ROOT}/f.new", f"{ROOT}/f")
        self.assertEqual(
            _everything_left(self.platter), [{"f": OLD, "f.new": NEW}, {"f": NEW, "f.new": NEW}, {"f": NEW}]
        )
        self.assertEqual(_everything_left(self.platter, ordered=True), [{"f": OLD, "f.new": NEW}, {"f": NEW}])

    def test_another_renaming_may_lose_the_file_on_a_weak_file_system(self) -> None:
        self.stored("a", OLD)
        self.disk.rename(f"{ROOT}/a", f"{ROOT}/b")
        self.assertEqual(_everything_left(self.platter), [{"a": OLD}, {"a": OLD, "b": OLD}, {}, {"b": OLD}])
        self.assertEqual(_everything_left(self.platter, ordered=True), [{"a": OLD}, {"b": OLD}])

    def test_an_ordered_file_system_keeps_no_change_of_names_without_those_before(self) -> None:
        self.stored("a", OLD)
        self.disk.remove(f"{ROOT}/a")
        self.disk.save(f"{ROOT}/b", NEW)
        self.assertEqual(_everything_left(self.platter, ordered=True), [{"a": OLD}, {}, {"b": NEW}])
        self.assertIn({"a": OLD, "b": NEW}, _everything_left(self.platter))

    def test_a_directory_is_lost_with_all_that_is_in_it(self) -> None:
        self.disk.add_directory(f"{ROOT}/d")
        self.disk.save(f"{ROOT}/d/f", NEW)
        self.disk.sync_directory(f"{ROOT}/d")
        self.assertEqual(set(self.platter.crash(lambda count: 0).names), {""})
        self.disk.sync_directory(ROOT)
        self.assertEqual(self.platter.crash(lambda count: 0).names["d"].keys(), {"f"})

    def test_a_second_name_is_of_the_same_file(self) -> None:
        descriptor = self.stored("a", OLD)
        self.disk.link(f"{ROOT}/a", f"{ROOT}/b")
        self.disk.rename(f"{ROOT}/a", f"{ROOT}/b")
        self.assertEqual(self.disk.names(ROOT), ["a", "b"], "which POSIX wants")
        self.disk.write(descriptor, NEW)
        self.assertEqual(self.disk.read(f"{ROOT}/b"), NEW)


class LikeTheRealOneTests(TestCase):
    def test_it_does_what_the_real_one_does(self) -> None:
        for seed in range(20):
            real_root = self.path / str(seed)
            real_root.mkdir()
            outcomes = [
                _do_something(random.Random(seed), Disk(), str(real_root)),
                _do_something(random.Random(seed), MemoryDisk(ROOT, Platter()), ROOT),
            ]
            self.assertEqual(*outcomes)


def _do_something(choices: random.Random, disk: Disk, root: str) -> list[object]:
    """Many calls, and what they told."""
    told: list[object] = []
    descriptors: dict[int, int] = {}
    for number in range(200):
        name, other = (f"{root}/{choices.choice('abcd')}" for _ in range(2))
        descriptor = choices.choice(list(descriptors)) if descriptors else None
        size = choices.randrange(2000)
        data = bytes([number]) * size
        call = choices.randrange(14)
        try:
            if call <= 1:
                descriptors[number] = disk.create(name)
            elif call == 2:
                descriptors[number] = disk.reopen(name)
            elif call == 3:
                disk.save(name, data)
            elif call == 4:
                disk.rename(name, other)
            elif call == 5:
                disk.remove(name)
            elif call == 6:
                disk.cut_file(name, min(size, disk.length(name)))
            elif call == 7:
                told.append(disk.read_part(name, size, 300))
            elif descriptor is not None:
                opened = descriptors[descriptor]
                if call <= 9:
                    disk.write(opened, data)
                elif call == 10:
                    disk.extend(opened, size)
                elif call == 11:
                    disk.cut(opened, size)
                elif call == 12:
                    told.append(disk.size(opened))
                else:
                    disk.close(descriptors.pop(descriptor))
        except OSError as error:
            told.append((number, error.errno))
        names = disk.names(root)
        told.append([(Path(name).name, disk.read(f"{root}/{name}")) for name in names])
    for opened in descriptors.values():
        disk.close(opened)
    return told
