"""What a repair reports of each record that it does not save, or that may be wrong, and what is there after it."""

from __future__ import annotations

import errno
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kvtwist.engine import manifest as manifests
from kvtwist.engine.disk import Disk
from kvtwist.engine.frame import Batch, Change, Transaction, encode_frame
from kvtwist.engine.inspection.diagnosis import BadPage
from kvtwist.engine.inspection.folding import MAX_REVISION, Holes, Report, Wishes
from kvtwist.engine.manifest import Manifest
from kvtwist.engine.page import Page
from kvtwist.engine.repair import Repair, Repaired
from kvtwist.engine.segment import encode_header, segment_name
from kvtwist.engine.sorted_run import PageRef, SortedRun
from kvtwist.model import DATA, STAGED, Clear, Delete, StoreError
from tests.support.engine import Engine, FaultyDisk, put
from tests.unit.engine.test_diagnosis import DiagnosisCase

BASE = {b"%02d" % n: b"old %02d" % n * 5 for n in range(8)}
CONTENTS = {
    **{key: value for key, value in BASE.items() if key != b"05"},
    b"03": b"new 03" * 6,
    **{b"%02d" % n: b"journalled %d" % n for n in range(3)},
}
"""What the whole store holds: a base run of all keys, a newer one with 03 and the removal of 05, and the journal."""


class RepairCase(DiagnosisCase):
    def setUp(self) -> None:
        super().setUp()
        self.newer, self.base = self.manifest.keyspaces[DATA]
        self.revision = 6

    def file_of(self, number: int) -> Path:
        return Path(self.diagnosis()[0].listing.reader.file_of(number))

    def planned(self, **wishes: bool) -> tuple[Repair, list[Report]]:
        found, _ = self.diagnosis()
        reports: list[Report] = []
        self.read: list[int] = []
        return Repair(found, Wishes(**wishes), reports.append, self.read.append), reports

    def repaired(self, *expected: Report, revision: int = 7, basis: str = "manifest", **wishes: bool) -> Repaired:
        """Rehearse and repair; the reports have to be these in both."""
        before = {path: path.read_bytes() for path in self.store.rglob("*") if path.is_file()}
        rehearsal, reports = self.planned(**wishes)
        rehearsal.rehearse()
        self.assertEqual(reports, list(expected))
        self.assertEqual({path: path.read_bytes() for path in self.store.rglob("*") if path.is_file()}, before)
        repair, reports = self.planned(**wishes)
        self.assertEqual((repair.basis, rehearsal.basis), (basis, basis))
        done = repair.carry_out(Disk())
        self.assertEqual(reports, list(expected))
        self.assertEqual(done.revision, revision)
        self.assertEqual(self.manifest.revision, revision)
        _, findings = self.diagnosis()
        self.assertEqual([finding.file for finding in findings], [done.kept])
        self.assertEqual(list(self.store.glob("journal-0*")), [])
        return done

    def contents(self, keyspace: str = DATA) -> dict[bytes, bytes]:
        engine = Engine(self.store, wall=time.time())
        engine.open()
        found = dict(engine.items(keyspace))
        engine.die()
        return found

    def report(self, kind: Any, **fields: Any) -> Report:
        return Report(kind=kind, **{"keyspace": DATA, **fields})


class HolesTests(SynchronousTestCase):
    def test_a_lost_page_is_above_the_keys_of_its_range_in_older_runs(self) -> None:
        def lost(number: int, depth: int, first: bytes, stop: bytes | None) -> BadPage:
            return BadPage(DATA, depth, PageRef(number, first, 1, None, stop))

        holes = Holes([lost(3, 0, b"x", None), lost(1, 0, b"c", b"f"), lost(2, 2, b"a", b"b")])
        for key, level, number in (
            *((b"b", 2, None), (b"c", 2, 1), (b"e", 2, 1), (b"f", 2, None), (b"w", 2, None)),
            *((b"x", 2, 3), (b"z", 9, 3), (b"d", 1, None), (b"d", 0, None), (b"a", 3, None), (b"a", 4, 2)),
        ):
            self.assertEqual(holes.above(key, level), number, (key, level))


class PageTests(RepairCase):
    def lose(self, number: int) -> None:
        self.file_of(number).unlink()

    def spoil(self, number: int, old: bytes, new: bytes) -> None:
        file = self.file_of(number)
        content = file.read_bytes()
        self.assertIn(old, content)
        file.write_bytes(content.replace(old, new))

    def test_a_whole_store_stays_as_it_is(self) -> None:
        pages = self.manifest.pages()
        done = self.repaired()
        self.assertLessEqual(pages, self.manifest.pages())
        self.assertEqual(len(self.manifest.pages() - pages), 1, "what the journal held")
        self.assertEqual(self.contents(), CONTENTS)
        kept = {str(path.relative_to(done.kept)) for path in Path(done.kept).rglob("*") if path.is_file()}
        self.assertEqual(kept, {f"manifest-{3:020d}", f"journal-{4:020d}.log"})
        self.assertEqual(self.read, [])

    def test_a_page_of_the_base_run_is_lost(self) -> None:
        ref = self.base.pages[3]
        self.assertEqual((ref.first, ref.stop), (b"06", b"07\0"))
        self.lose(ref.number)
        self.repaired(self.report("unreadable", page=ref.number, records=None, first=b"06", stop=b"07\0"))
        self.assertEqual(self.contents(), {key: value for key, value in CONTENTS.items() if key < b"06"})

    def test_all_pages_that_are_rewritten_are_read_once_and_counted(self) -> None:
        ref = self.base.pages[3]
        self.lose(ref.number)
        self.planned()[0].rehearse()
        self.assertEqual(sum(self.read), sum(ref.size for run in (self.newer, self.base) for ref in run.pages))

    def test_a_page_of_the_newer_run_is_lost(self) -> None:
        [ref] = self.newer.pages
        older = [
            self.report("older", key=key, revision=1, size=2 + len(BASE[key]), page=ref.number)
            for key in (b"03", b"04", b"05")
        ]
        unreadable = self.report("unreadable", page=ref.number, records=None, first=b"03", stop=b"05\0")
        for keeps in (False, True):
            self.setUp_again()
            self.lose(ref.number)
            told = [self.saved(report, keeps) for report in older]
            self.repaired(unreadable, *told, keep_older=keeps)
            missing = {} if not keeps else {key: BASE[key] for key in (b"03", b"04", b"05")}
            others = {key: value for key, value in CONTENTS.items() if not b"03" <= key <= b"05"}
            self.assertEqual(self.contents(), {**others, **missing})

    def saved(self, report: Report, saved: bool) -> Report:
        return Report(
            **{**{name: getattr(report, name) for name in Report.__slots__ if name[0] != "_"}, "saved": saved}
        )

    def setUp_again(self) -> None:
        self.store = self.path / f"store {time.monotonic_ns()}"
        self.make()

    def test_an_older_version_that_has_expired_is_not_reported(self) -> None:
        self.store = self.path / "expiring"
        engine = Engine(self.store)
        engine.open()
        engine.do(put(b"a", b"v", ttl_ms=1), put(b"b", b"v", ttl_ms=10**13), Delete(DATA, b"none"))
        engine.checkpoint()
        engine.do(put(b"a", b"new"), put(b"b", b"new"))
        engine.checkpoint()
        engine.die()
        [newer, _] = self.manifest.keyspaces[DATA]
        [ref] = newer.pages
        self.lose(ref.number)
        self.repaired(
            self.report("unreadable", page=ref.number, records=None, first=b"a", stop=b"b\0"),
            self.report("older", key=b"b", revision=1, size=2, page=ref.number),
            revision=3,
        )

    def test_records_of_a_damaged_page_are_unsure(self) -> None:
        ref = self.base.pages[3]
        unsure = [
            self.report("unsure", key=key, revision=1, size=2 + len(BASE[key]), page=ref.number)
            for key in (b"06", b"07")
        ]
        for salvages in (False, True):
            self.setUp_again()
            self.spoil(ref.number, b"old 06old", b"old 06OLD")
            self.repaired(*(self.saved(report, salvages) for report in unsure), salvage=salvages)
            found = {key: value.replace(b"OLD", b"old") for key, value in self.contents().items()}
            self.assertEqual(
                found, {key: value for key, value in CONTENTS.items() if salvages or key not in (b"06", b"07")}
            )

    def test_what_cannot_be_read_of_a_damaged_page_is_counted(self) -> None:
        ref = self.base.pages[3]
        content = self.file_of(ref.number).read_bytes()
        record = Page(content).record(0)
        self.spoil(ref.number, record, b"\xff" + record[1:])
        self.repaired(
            self.report("unreadable", page=ref.number, records=1, first=b"06", stop=b"07\0"),
            self.report("unsure", key=b"07", revision=1, size=2 + len(BASE[b"07"]), page=ref.number),
        )

    def test_a_tombstone_of_a_damaged_page_is_unsure(self) -> None:
        [ref] = self.newer.pages
        self.spoil(ref.number, b"new 03new", b"new 03NEW")
        self.repaired(
            self.report("unsure", key=b"03", revision=3, size=2 + 36, page=ref.number),
            self.report("older", key=b"03", revision=1, size=2 + 30, page=ref.number),
            self.report("older", key=b"04", revision=1, size=2 + 30, page=ref.number),
            self.report("unsure", key=b"05", revision=3, size=None, page=ref.number),
            self.report("older", key=b"05", revision=1, size=2 + 30, page=ref.number),
        )

    def test_salvaging_puts_unsure_records_before_older_ones(self) -> None:
        [ref] = self.newer.pages
        self.spoil(ref.number, b"new 03new", b"new 03NEW")
        self.repaired(
            self.report("unsure", key=b"03", revision=3, size=2 + 36, page=ref.number, saved=True),
            self.report("older", key=b"04", revision=1, size=2 + 30, page=ref.number),
            self.report("unsure", key=b"05", revision=3, size=None, page=ref.number, saved=True),
            salvage=True,
        )
        self.assertIn(b"NEW", self.contents().get(b"03", b""))

    def test_a_page_that_another_was_written_over_is_lost_without_a_count(self) -> None:
        ref = self.base.pages[3]
        self.file_of(ref.number).write_bytes(self.file_of(self.newer.pages[0].number).read_bytes())
        self.repaired(self.report("unreadable", page=ref.number, records=None, first=b"06", stop=b"07\0"), salvage=True)

    def test_pages_in_each_others_files_are_put_back(self) -> None:
        one, other = (self.file_of(self.base.pages[at].number) for at in (2, 3))
        content = one.read_bytes()
        one.write_bytes(other.read_bytes())
        other.write_bytes(content)
        self.repaired()
        self.assertEqual(self.contents(), CONTENTS)

    def test_nothing_is_lost_of_a_keyspace_that_was_cleared_since(self) -> None:
        engine = Engine(self.store)
        engine.open()
        engine.do(Clear(STAGED))
        engine.die()
        [run] = self.manifest.keyspaces[STAGED]
        self.lose(run.pages[0].number)
        self.repaired(revision=8)
        self.assertEqual((self.contents(), self.contents(STAGED)), (CONTENTS, {}))

    def test_a_keyspace_that_was_counted_wrong_is_written_anew(self) -> None:
        manifest = self.manifest
        run = SortedRun(self.newer.pages, self.newer.records, self.newer.weight, 5)
        changed = Manifest(3, manifest.time_ms, manifest.next_page, {**manifest.keyspaces, DATA: [run, self.base]})
        manifests.save(Disk(), str(self.store), changed)
        self.repaired()
        self.assertEqual(self.contents(), CONTENTS)
        [whole] = self.manifest.keyspaces[DATA]
        self.assertEqual((whole.records, whole.tombstones), (len(CONTENTS), 0))
        self.assertEqual(self.manifest.keyspaces[STAGED], manifest.keyspaces[STAGED])

    def test_new_pages_have_numbers_that_no_file_has(self) -> None:
        (self.store / "pages" / "OTk5_").write_bytes(b"nonsense")
        self.lose(self.base.pages[3].number)
        repair, _ = self.planned()
        repair.carry_out(Disk())
        self.assertGreater(min(ref.number for run in self.manifest.keyspaces[DATA] for ref in run.pages), 999)

    def test_one_that_fails_leaves_no_page_that_it_has_written(self) -> None:
        self.lose(self.base.pages[3].number)
        pages = set(self.store.glob("pages/*"))
        for call, part in (("rename", "manifest-"), ("sync_directory", "pages"), ("write", "pages/")):
            disk = FaultyDisk()
            disk.fail(call, errno.EIO, path=f"{self.store}/{part}", skip=call == "write")
            self.assertRaises((OSError, StoreError), self.planned()[0].carry_out, disk)
            self.assertEqual(set(self.store.glob("pages/*")), pages, call)
        self.planned()[0].carry_out(Disk())


class JournalTests(RepairCase):
    def make(self) -> None:
        super().make()
        [self.segment] = self.segments()
        frames = self.frames(self.segment)
        self.marks = [frame.start for frame in frames]
        self.whole = self.segment.read_bytes()[: frames[-1].end]
        self.segment.write_bytes(self.whole)

    def spoil(self, frame: int) -> None:
        content = bytearray(self.whole)
        content[self.marks[frame] + 20] ^= 1
        self.segment.write_bytes(bytes(content))

    def test_a_transaction_that_is_lost_and_those_after_it(self) -> None:
        for stops in (False, True):
            self.store = self.path / f"store {stops}"
            self.make()
            self.spoil(1)
            self.repaired(
                Report(kind="missing", revisions=(5, 5), records=None),
                self.report("behind", key=b"02", revision=6, size=2 + 12, saved=not stops),
                stop_at_gap=stops,
            )
            gone = {b"01": BASE[b"01"], **({b"02": BASE[b"02"]} if stops else {})}
            self.assertEqual(self.contents(), {**CONTENTS, **gone})

    def test_what_follows_may_remove_or_clear(self) -> None:
        salt = b"saltsalt"
        changes = [Change(DATA, b"07"), Change(STAGED, None), Change("other", b"k", b"v", "a/b")]
        frame = b"".join(encode_frame(Batch(7, [Transaction(9, 10**14, changes)]), salt))
        (self.store / segment_name(9)).write_bytes(encode_header(salt) + frame)
        self.repaired(
            Report(kind="missing", revisions=(7, 8), records=None),
            self.report("behind", key=b"07", revision=9, size=None, saved=True),
            self.report("behind", keyspace=STAGED, key=None, revision=9, size=None, saved=True, records=None),
            self.report("behind", keyspace="other", key=b"k", revision=9, size=2, saved=True),
            revision=10,
        )
        self.assertEqual(self.manifest.time_ms, 10**14)
        self.assertEqual(self.contents(), {key: value for key, value in CONTENTS.items() if key != b"07"})
        self.assertEqual((self.contents(STAGED), self.contents("other")), ({}, {b"k": b"v"}))

    def test_a_revision_that_is_out_of_range(self) -> None:
        for first in (MAX_REVISION, MAX_REVISION + 1):
            path = self.store / segment_name(first)
            path.write_bytes(encode_header(b"saltsalt"))
            repair, _ = self.planned()
            if first == MAX_REVISION:
                repair.rehearse()
                self.assertEqual(repair._highest, MAX_REVISION - 1)
            else:
                with self.assertRaises(StoreError) as caught:
                    repair.carry_out(Disk())
                self.assertIn(f"revision {MAX_REVISION} is out of range", str(caught.exception))
            path.unlink()

    def test_the_time_is_not_before_any_that_was_recorded(self) -> None:
        before = int(time.time() * 1000)
        self.spoil(0)
        repair, _ = self.planned()
        repair.carry_out(Disk())
        self.assertLessEqual(before, self.manifest.time_ms)
        manifest = self.manifest
        later = Manifest(manifest.revision, 10**14, manifest.next_page, manifest.keyspaces)
        manifests.save(Disk(), str(self.store), later)
        repair, _ = self.planned()
        repair.carry_out(Disk())
        self.assertEqual(self.manifest.time_ms, 10**14)


class ManifestTests(RepairCase):
    def test_without_a_manifest_the_store_is_made_of_its_pages(self) -> None:
        self.manifest_path.unlink()
        self.repaired(basis="pages")
        self.assertEqual(self.contents(), CONTENTS)
        self.assertEqual(self.contents(STAGED), {b"staged": b"s" * 20})

    def test_a_damaged_page_without_a_manifest(self) -> None:
        self.manifest_path.unlink()
        ref = self.base.pages[3]
        file = self.file_of(ref.number)
        file.write_bytes(file.read_bytes().replace(b"old 06old", b"old 06OLD"))
        unsure = [self.report("unsure", key=key, revision=1, size=32, page=ref.number) for key in (b"06", b"07")]
        self.repaired(*unsure, basis="pages")
        self.assertEqual(self.contents(), {key: value for key, value in CONTENTS.items() if key < b"06"})

    def test_a_page_of_which_nothing_can_be_read_without_a_manifest(self) -> None:
        self.manifest_path.unlink()
        ref = self.base.pages[3]
        self.file_of(ref.number).write_bytes(b"")
        self.repaired(
            Report(kind="unreadable", keyspace=None, page=ref.number, records=None, first=b"", stop=None),
            basis="pages",
        )

    def test_all_pages_are_read_and_counted_without_a_manifest(self) -> None:
        size = sum(path.stat().st_size for path in self.store.glob("pages/*"))
        self.manifest_path.unlink()
        self.planned()[0].rehearse()
        self.assertEqual(sum(self.read), 2 * size, "to sort them, and to merge them")

    def test_a_page_that_cannot_be_read_without_a_manifest(self) -> None:
        self.manifest_path.unlink()
        ref = self.base.pages[3]
        file = self.file_of(ref.number)
        file.unlink()
        file.mkdir()
        repair, reports = self.planned()
        repair.rehearse()
        self.assertEqual(reports, [Report(kind="unreadable", page=ref.number, records=None, first=b"")])

    def test_what_was_written_after_a_clear_counts_without_a_manifest(self) -> None:
        engine = Engine(self.store)
        engine.open()
        engine.do(Clear(DATA), put(b"after", b"a" * 20), put(b"later", b"b" * 20))
        engine.checkpoint()
        [run] = engine.storage.manifest.keyspaces[DATA]
        engine.die()
        spoilt = self.file_of(run.pages[0].number)
        segment = self.store / segment_name(7)
        salt = b"saltsalt"
        cleared = b"".join(encode_frame(Batch(6, [Transaction(7, 5, [Change(DATA, None)])]), salt))
        for path in self.segments():
            path.unlink()
        segment.write_bytes(encode_header(salt) + cleared)
        spoilt.write_bytes(spoilt.read_bytes().replace(b"a" * 20, b"a" * 19 + b"!"))
        self.manifest_path.unlink()
        repair, reports = self.planned(salvage=True)
        repair.carry_out(Disk())
        self.assertEqual({report.key for report in reports}, {b"after", b"later"})
        self.assertEqual(self.contents(), {b"after": b"a" * 19 + b"!", b"later": b"b" * 20})

    def test_an_older_manifest_from_which_the_journal_goes_on(self) -> None:
        newest = self.store / f"manifest-{5:020d}"
        newest.write_bytes(b"nonsense")
        done = self.repaired(basis="older manifest")
        self.assertEqual(self.contents(), CONTENTS)
        self.assertTrue((Path(done.kept) / newest.name).exists())

    def test_an_older_manifest_whose_later_changes_are_gone_is_not_used(self) -> None:
        (self.store / f"manifest-{9:020d}").write_bytes(b"nonsense")
        self.repaired(basis="pages", revision=10)
        self.assertEqual(self.contents(), CONTENTS)

    def test_a_manifest_that_was_not_finished_is_as_good(self) -> None:
        self.manifest_path.rename(f"{self.manifest_path}.new")
        self.repaired(basis="older manifest")
        self.assertEqual(self.contents(), CONTENTS)
        self.assertEqual(list(self.store.glob("*.new")), [])
