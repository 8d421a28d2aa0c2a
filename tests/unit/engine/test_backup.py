"""Backups: whatever the store does while one is read, it is the store as it was when the backup began."""

from __future__ import annotations

import errno
import io
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

from twisted.internet.defer import Deferred

from kvtwist.engine import Store, compaction
from kvtwist.engine.backup import Backup
from kvtwist.engine.segment import segment_name
from kvtwist.engine.timeline import Timeline
from kvtwist.model import DATA, HISTORY, Clear, StoreUnavailable
from tests.support.engine import (
    Engine,
    EngineCase,
    FaultyDisk,
    SteppedWorker,
    WatchedDisk,
    failure_of,
    finish,
    put,
    result_of,
)


async def gathered(pieces: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


class BackupCase(EngineCase):
    def setUp(self) -> None:
        super().setUp()
        self.copies = 0

    def begin(self) -> Backup:
        backup = result_of(Deferred.fromCoroutine(self.engine.store.backup()))
        assert backup is not None
        return backup

    def end(self, backup: Backup) -> None:
        result_of(Deferred.fromCoroutine(backup.close()))

    def archive(self, backup: Backup) -> bytes:
        return result_of(Deferred.fromCoroutine(gathered(backup.archive())))

    def restored(self, archive: bytes) -> Engine:
        """A store in a new directory, of what is in an archive."""
        self.copies += 1
        place = self.path / f"copy-{self.copies}"
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(place, filter="data")
            self.assertEqual({member.mode for member in tar.getmembers()}, {0o600})
            last = tar.getmembers()[-1]
        self.assertEqual(archive[last.offset_data + last.size :].strip(b"\0"), b"")
        self.assertEqual(
            len(archive), last.offset_data + -(-last.size // 512) * 512 + 1024
        )  # two empty blocks, as POSIX has it
        engine = Engine(place, disk=WatchedDisk(), clock=self.engine.clock)
        engine.open()
        self.addCleanup(engine.die)
        return engine

    def pages(self) -> list[str]:
        return self.engine.files("pages/")

    def fill(self, value: bytes, count: int = 30) -> None:
        for number in range(count):
            self.engine.put(b"%02d" % number, value)


class BackupTests(BackupCase):
    def test_it_holds_all_that_was_there_and_nothing_that_came_later(self) -> None:
        self.fill(b"paged")
        self.engine.checkpoint()
        self.engine.put(b"05", b"journalled")
        self.engine.put(b"event", b"v", ttl_ms=60_000, keyspace=HISTORY)
        before = self.engine.contents()
        backup = self.begin()
        self.engine.put(b"06", b"too late")
        archive = self.archive(backup)
        self.assertEqual(len(archive), backup.size)
        self.assertEqual(backup.revision, 32)
        self.assertEqual(self.restored(archive).contents(), before)
        self.end(backup)

    def test_a_large_file_is_read_in_pieces(self) -> None:
        self.engine.put(b"large", b"v" * 2**20)
        for _ in range(2):
            backup = self.begin()
            pieces: list[bytes] = []

            async def read(backup: Backup = backup, pieces: list[bytes] = pieces) -> None:
                async for piece in backup.archive():
                    pieces.append(piece)

            result_of(Deferred.fromCoroutine(read()))
            self.assertEqual(max(map(len, pieces)), 2**18)
            self.assertEqual(len(b"".join(pieces)), backup.size)
            self.end(backup)
            self.engine.checkpoint()

    def test_an_empty_store_has_one_too(self) -> None:
        backup = self.begin()
        self.assertEqual(self.restored(self.archive(backup)).items(), [])
        self.assertEqual(backup.revision, 0)
        self.end(backup)

    def test_a_store_that_has_written_nothing_since_its_start_has_one_too(self) -> None:
        for checkpointed in (False, True):
            self.fill(b"%d" % checkpointed)
            if checkpointed:
                self.engine.checkpoint()
            self.engine.reopen()
            before = self.engine.contents()
            backup = self.begin()
            self.engine.put(b"05", b"too late")
            archive = self.archive(backup)
            self.assertEqual(self.restored(archive).contents(), before)
            self.end(backup)

    def test_what_is_left_of_a_segment_that_was_never_finished_is_in_none(self) -> None:
        self.fill(b"v")
        self.engine.die()
        (self.engine.path / segment_name(31)).write_bytes(bytes(5000))
        self.engine.open()
        before = self.engine.contents()
        backup = self.begin()
        self.assertEqual([part.name for part in backup.parts if "journal" in part.name], [segment_name(1)])
        self.engine.put(b"05", b"too late")
        self.assertEqual(self.restored(self.archive(backup)).contents(), before)
        self.end(backup)

    def test_nothing_is_removed_that_it_still_has_to_read(self) -> None:
        self.patch(compaction, "SMALL", 2**30)
        self.fill(b"first")
        self.engine.checkpoint()
        self.fill(b"second", 10)
        before = self.engine.contents()
        old = self.pages()
        backup = self.begin()
        for change in (b"third", b"fourth"):
            self.fill(change)
            self.engine.checkpoint()
        self.engine.do(Clear(DATA))
        self.engine.checkpoint()
        self.assertLessEqual(set(old), set(self.pages()))
        self.assertEqual(self.restored(self.archive(backup)).contents(), before)
        self.end(backup)
        self.assertEqual(self.pages(), [])
        self.assertEqual(len(self.engine.files("manifest")), 1)
        self.assertEqual(len(self.engine.files("journal-0")), 1)

    def test_of_two_the_last_to_end_lets_go(self) -> None:
        self.fill(b"first")
        self.engine.checkpoint()
        before = self.engine.contents()
        first, second = self.begin(), self.begin()
        self.engine.do(Clear(DATA))
        self.engine.checkpoint()
        self.end(first)
        self.assertEqual(self.restored(self.archive(second)).contents(), before)
        self.end(second)
        self.assertEqual(self.pages(), [])

    def test_ending_twice_is_ending_once(self) -> None:
        self.fill(b"first")
        self.engine.checkpoint()
        first, second = self.begin(), self.begin()
        self.end(first)
        self.end(first)
        before = self.pages()
        self.engine.do(Clear(DATA))
        self.engine.checkpoint()
        self.assertEqual(self.pages(), before)
        self.end(second)

    def test_what_was_kept_for_it_is_removed_by_the_next_start(self) -> None:
        self.fill(b"first")
        self.engine.checkpoint()
        self.begin()
        self.engine.do(Clear(DATA))
        self.engine.checkpoint()
        self.engine.put(b"k", b"v")
        self.engine.reopen()
        self.assertEqual(self.engine.items(), [(b"k", b"v")])
        self.assertEqual(self.pages(), [])
        self.assertEqual(len(self.engine.files("manifest")), 1)

    def test_the_store_works_on_what_it_restores(self) -> None:
        self.fill(b"first")
        backup = self.begin()
        copy = self.restored(self.archive(backup))
        self.end(backup)
        copy.put(b"more", b"v")
        copy.checkpoint()
        copy.reopen()
        self.assertEqual(copy.get(b"more"), b"v")
        self.assertEqual(copy.get(b"07"), b"first")

    def test_it_holds_what_is_durable_without_syncs_too(self) -> None:
        self.engine.sync = False
        self.engine.reopen()
        self.fill(b"first")
        backup = self.begin()
        self.assertEqual(self.restored(self.archive(backup)).contents(), self.engine.contents())
        self.end(backup)

    def test_a_file_that_cannot_be_read_fails_it(self) -> None:
        self.fill(b"first")
        self.engine.checkpoint()
        backup = self.begin()
        for page in self.pages():
            (Path(self.engine.path) / page).unlink()
        error = failure_of(Deferred.fromCoroutine(gathered(backup.archive())))
        self.assertIsInstance(error, OSError)
        self.flushLoggedErrors()

    def test_one_that_could_not_begin_keeps_nothing(self) -> None:
        self.fill(b"first")
        self.engine.checkpoint()
        assert isinstance(self.engine.disk, FaultyDisk)
        self.engine.disk.fail("names", errno.EIO, path="store")
        error = failure_of(Deferred.fromCoroutine(self.engine.store.backup()))
        self.assertIsInstance(error, OSError)
        self.engine.do(Clear(DATA))
        self.engine.checkpoint()
        self.assertEqual(self.pages(), [])
        self.assertEqual(len(self.engine.files("journal-0")), 1)

    def test_a_store_that_is_closed_has_none(self) -> None:
        result_of(self.engine.close())
        error = failure_of(Deferred.fromCoroutine(self.engine.store.backup()))
        self.assertIsInstance(error, StoreUnavailable)

    def test_a_store_in_memory_has_none(self) -> None:
        clock = self.engine.clock
        store = Store(clock, Timeline(clock.seconds, clock.seconds))
        store.open()
        store.start()
        self.assertIsNone(result_of(Deferred.fromCoroutine(store.backup())))
        result_of(Deferred.fromCoroutine(store.close()))


class SteppedBackupTests(BackupCase):
    """What is on its way when a backup begins belongs to it, or fails without it."""

    def make_engine(self) -> Engine:
        engine = super().make_engine()
        engine.journal = SteppedWorker()
        return engine

    def test_what_is_on_its_way_is_waited_for(self) -> None:
        journal = self.engine.journal
        assert isinstance(journal, SteppedWorker)
        writing = self.engine.store.transact([], [put(b"first", b"v")])
        beginning = Deferred.fromCoroutine(self.engine.store.backup())
        later = self.engine.store.transact([], [put(b"second", b"v")])
        finish(journal)
        result_of(writing)
        result_of(later)
        backup = result_of(beginning)
        assert backup is not None
        copy = self.restored(self.archive(backup))
        self.assertEqual(copy.get(b"first"), b"v")
        closing = Deferred.fromCoroutine(backup.close())
        finish(journal)
        result_of(closing)
