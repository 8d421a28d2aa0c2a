"""A store in the hands of a tool: the same store as a server's, without anything that runs beside it."""

from __future__ import annotations

import errno
import threading

from kvtwist.engine import compactor, run_writer
from kvtwist.engine.inspection.directory import NotAStore
from kvtwist.engine.limits import Limits
from kvtwist.engine.offline import opened
from kvtwist.model import DATA, HISTORY, STAGED, Append, Clear, Delete, Put, Restore, StoreError, StoreInUse
from tests.support.engine import Engine, FaultyDisk, TestCase


def put(key: bytes, value: bytes = b"v") -> Put:
    return Put(DATA, key, value, "text/plain")


class OfflineTests(TestCase):
    def test_what_is_written_is_there_the_next_time(self) -> None:
        store = str(self.path / "store")
        with opened(store, create=True) as one:
            one.write([put(b"a"), put(b"b")])
            one.write([Delete(DATA, b"a"), Append(HISTORY, b"h", b"e", "text/plain")])
            self.assertEqual(one.revision, 2)
        with opened(store) as two:
            self.assertEqual(two.revision, 2)
            self.assertEqual([key for key, _ in two.scan(DATA)], [b"b"])
            self.assertEqual(two.keyspaces(), [DATA, HISTORY])
            self.assertEqual(two.records(DATA), 1)
            found = two.get(DATA, b"b")
            self.assertEqual((found and found.value, two.get(DATA, b"a")), (b"v", None))
        engine = Engine(self.path / "store")
        self.assertEqual(engine.open().transactions, 0)  # it has ended with a checkpoint
        engine.die()

    def test_it_has_the_lock(self) -> None:
        with opened(str(self.path / "store"), create=True), self.assertRaises(StoreInUse):
            Engine(self.path / "store").open()
        engine = Engine(self.path / "store")
        engine.open()
        with self.assertRaises(StoreInUse), opened(str(self.path / "store")):
            pass
        engine.die()

    def test_it_makes_no_store_unless_it_is_told_to(self) -> None:
        for create, place in ((False, "missing"), (False, "."), (True, "file")):
            (self.path / "file").write_bytes(b"")
            with self.assertRaises(NotAStore), opened(str(self.path / place), create=create):
                pass
        with self.assertRaises(NotAStore), opened(str(self.path / "missing")):
            pass
        self.assertEqual([path.name for path in self.path.iterdir()], ["file"])

    def test_an_error_within_closes_it_all_the_same(self) -> None:
        with self.assertRaises(KeyError), opened(str(self.path / "store"), create=True) as store:
            store.write([put(b"a")])
            raise KeyError
        with opened(str(self.path / "store")) as store:
            self.assertEqual(len(list(store.scan(DATA))), 1)

    def test_more_than_memory_holds_can_be_written_and_read(self) -> None:
        limits = Limits(pages=1, memtables=20_000, unsynced=1000, journal=50_000, slice_bytes=100, slice_entries=10)
        threads = threading.active_count()
        with opened(str(self.path / "store"), create=True, limits=limits) as store:
            for number in range(100):
                store.write([put(b"%03d-%d" % (number, n), b"x" * 100) for n in range(10)])
            self.assertEqual(len(list(store.scan(DATA))), 1000)
            self.assertEqual(len(list(store.scan(DATA, b"050"))), 500)
            self.assertEqual(threading.active_count(), threads)

    def test_a_full_disk_is_an_error_and_the_store_stays_whole(self) -> None:
        disk = FaultyDisk()
        with opened(str(self.path / "store"), create=True, disk=disk) as store:
            store.write([put(b"a")])
            disk.fail("write", errno.ENOSPC)
            self.assertRaises(StoreError, store.write, [put(b"b")])
            store.write([put(b"c")])
        with opened(str(self.path / "store")) as store:
            self.assertEqual([key for key, _ in store.scan(DATA)], [b"a", b"c"])


class RestoreTests(TestCase):
    def test_a_record_keeps_its_own_times(self) -> None:
        engine = Engine(self.path / "store")
        engine.open()
        later = engine.now_ms() + 10**6
        engine.do(Restore(DATA, b"a", b"v", "text/plain", modified_ms=5, expires_ms=later))
        engine.do(Restore(DATA, b"b", b"v", "x/y", modified_ms=6))
        expected = [(b"a", "text/plain", 5, later), (b"b", "x/y", 6, None)]
        for again in (lambda: None, engine.reopen, engine.checkpoint, engine.reopen):
            again()
            found = [(key, r.media_type, r.modified_ms, r.expires_ms) for key, r in engine.records()]
            self.assertEqual(found, expected)
        engine.clock.advance(1001)
        self.assertEqual([key for key, _ in engine.records()], [b"b"])
        engine.die()


class CompactTests(TestCase):
    def test_no_page_that_is_gone_stays_in_memory(self) -> None:
        self.patch(run_writer, "PAGE_SIZE", 100)
        self.patch(compactor, "compaction_due", lambda runs: [])
        place = str(self.path / "store")
        with opened(place, create=True) as store:
            for _ in range(2):
                store.write([put(b"%02d" % number, b"v" * 50) for number in range(20)])
                store.checkpoint()
                self.assertEqual(len(list(store.scan(DATA))), 20)
            advanced: list[int] = []
            store.compact(advanced.append)
            named = store._storage.manifest.pages()
            self.assertEqual(set(store._store._cache._pages) - named, set())
            self.assertEqual((store.pages(), sum(advanced)), (len(named), len(named) - 1), "the last one is the end")
            self.assertEqual(len(list(store.scan(DATA))), 20)

    def test_a_keyspace_that_the_journal_clears_leaves_no_page(self) -> None:
        engine = Engine(self.path / "store")
        engine.open()
        engine.put(b"a", b"v", keyspace=STAGED)
        engine.checkpoint()
        engine.do(Clear(STAGED))
        engine.reopen()
        engine.put(b"b", b"v")
        engine.checkpoint()
        self.assertEqual(engine.storage.pages.numbers(), engine.storage.manifest.pages())
        engine.die()

    def test_a_failure_is_an_error_and_costs_nothing(self) -> None:
        place = self.path / "store"
        with opened(str(place), create=True) as store:
            store.write([put(b"a")])
        with opened(str(place)) as store:
            store.write([Delete(DATA, b"a"), put(b"b")])
        for call in ("create", "rename", "sync_directory"):
            disk = FaultyDisk()
            with self.assertRaises((OSError, StoreError)), opened(str(place), disk=disk) as store:
                store.write([put(b"c")])
                disk.fail(call, errno.ENOSPC)
                store.compact(lambda _: None)
            with opened(str(place)) as store:
                self.assertEqual([key for key, _ in store.scan(DATA)], [b"b", b"c"])
