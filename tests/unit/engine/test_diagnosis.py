"""What a diagnosis says of each kind of damage: every figure of every finding, and what a repair learns from it."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any
from unittest.mock import patch

from msgspec.structs import replace

from kvtwist.engine import compactor, journal, run_writer
from kvtwist.engine import manifest as manifests
from kvtwist.engine.disk import Disk
from kvtwist.engine.frame import Frame, whole_frames
from kvtwist.engine.inspection.diagnosis import BadPage, Diagnosis
from kvtwist.engine.inspection.findings import Finding
from kvtwist.engine.manifest import Manifest
from kvtwist.engine.page import Page
from kvtwist.engine.segment import SEGMENT_HEADER, header_of
from kvtwist.engine.sorted_run import PageRef, SortedRun
from kvtwist.model import DATA, STAGED, Delete
from tests.support.engine import Engine, TestCase, put
from tests.support.tools import eventful


class DiagnosisCase(TestCase):
    """A store with tiny pages and without compaction."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(run_writer, "PAGE_SIZE", 100)
        self.patch(compactor, "compaction_due", lambda runs: [])
        self.patch(journal, "EXTENT", 0)
        self.store = self.path / "store"
        self.make()

    def make(self) -> None:
        """A store of six revisions: a base run and a newer one in pages, two transactions in the journal."""
        engine = Engine(self.store, reserve=0)
        engine.open()
        for change in (
            [put(b"%02d" % n, b"old %02d" % n * 5) for n in range(8)],
            [put(b"staged", b"s" * 20, keyspace=STAGED)],
        ):
            engine.do(*change)
        engine.checkpoint()
        engine.do(put(b"03", b"new 03" * 6), Delete(DATA, b"05"))
        engine.checkpoint()
        for number in range(3):
            engine.do(put(b"%02d" % number, b"journalled %d" % number))
        engine.die()

    def diagnosis(self, manifest_path: str | None = None) -> tuple[Diagnosis, list[Finding]]:
        self.advanced: list[int] = []
        found = Diagnosis(str(self.store), self.advanced.append, manifest_path)
        findings = list(found.findings())
        self.assertEqual(found.problems, sum(finding.kind == "problem" for finding in findings))
        return found, findings

    def assert_found(self, *expected: Finding) -> Diagnosis:
        found, findings = self.diagnosis()
        self.assertEqual(findings, list(expected))
        return found

    def problem(self, path: Path | str, what: str, **fields: Any) -> Finding:
        return Finding(kind="problem", file=str(path), what=what, **fields)

    @property
    def manifest(self) -> Manifest:
        return manifests.load(Disk(), str(self.store))

    @property
    def manifest_path(self) -> Path:
        return sorted(self.store.glob("manifest-*"))[-1]

    def segments(self) -> list[Path]:
        return sorted(self.store.glob("journal-0*"))

    def frames(self, path: Path) -> list[Frame]:
        content = path.read_bytes()
        return list(whole_frames(content, header_of(content)[0]))


class WholeTests(DiagnosisCase):
    def test_a_whole_store(self) -> None:
        found = self.assert_found()
        sizes = [path.stat().st_size for path in (*self.segments(), *self.store.glob("pages/*"))]
        self.assertEqual(found.size(), sum(sizes))
        self.assertEqual(sum(self.advanced), sum(sizes))
        self.assertEqual(found.manifest, self.manifest)
        self.assertEqual((found.bad_pages, found.miscounted, found.problems), ({}, set(), 0))
        self.assertEqual((found.after, found.journal_error, found.torn_bytes), (3, None, 0))
        self.assertEqual((found.journal.revision, found.journal.highest), (6, 6))

    def test_a_store_without_a_checkpoint(self) -> None:
        self.store = self.path / "new"
        engine = Engine(self.store)
        engine.open()
        engine.put(b"k", b"v")
        engine.die()
        found = self.assert_found()
        self.assertEqual((found.manifest, found.after, found.journal.revision), (Manifest(), 0, 1))

    def test_what_the_next_start_removes_and_what_is_not_the_stores(self) -> None:
        files = {
            "pages/OTk5_": ("leftover", "page 999, which the manifest does not name"),
            f"manifest-{1:020d}": ("leftover", "another manifest than the one that counts"),
            f"journal-{1:020d}.log": ("leftover", "a segment of which everything is in pages"),
            f"manifest-{9:020d}.new": ("leftover", "not finished"),
            "pages/OTg=_.new": ("leftover", "not finished"),
            "damaged-1": ("note", "files that a repair has replaced; the store does not need them"),
            "notes": ("note", "is not the store's"),
        }
        for size, name in enumerate(files, 5):
            (self.store / name).write_bytes(b"x" * size)
        found, findings = self.diagnosis()
        self.assertEqual(
            [(finding.kind, finding.file, finding.what, finding.at, finding.end) for finding in findings],
            [
                (kind, str(self.store / name), what, *((0, size) if kind == "leftover" else (None, None)))
                for size, (name, (kind, what)) in enumerate(files.items(), 5)
            ],
        )
        self.assertEqual(found.problems, 0)

    def test_a_file_that_goes_meanwhile_has_no_length(self) -> None:
        found = Diagnosis(str(self.store))
        before = found.size()
        segment = self.segments()[0]
        size = segment.stat().st_size
        segment.unlink()
        self.assertEqual(found.size(), before - size)


class ManifestTests(DiagnosisCase):
    def test_a_damaged_manifest(self) -> None:
        path = self.manifest_path
        path.write_bytes(path.read_bytes()[:-1] + b"!")
        size = path.stat().st_size
        found = self.assert_found(self.problem(path, "the manifest is damaged", at=0, end=size))
        self.assertEqual((found.manifest, found.after), (None, 3))
        self.assertEqual(sum(self.advanced), found.size(), "its pages are read all the same")

    def test_pages_without_a_manifest_are_read(self) -> None:
        self.manifest_path.unlink()
        page = sorted(self.store.glob("pages/*"))[2]
        page.write_bytes(b"nonsense")
        number = next(
            n for n in self.manifest_numbers if Path(Diagnosis(str(self.store)).listing.reader.file_of(n)) == page
        )
        found, findings = self.diagnosis()
        self.assertEqual(findings[0], self.problem(self.store, "there is no manifest"))
        [bad] = findings[1:]
        self.assertEqual((bad.kind, bad.file, bad.page), ("problem", str(page), number))
        self.assertNotIn(str(page), bad.what)
        self.assertEqual((found.manifest, found.after, found.journal.revision), (None, 3, 6))

    manifest_numbers = range(1, 20)

    def test_pages_without_anything_else(self) -> None:
        for path in (self.manifest_path, *self.segments()):
            path.unlink()
        what = "there are pages, but neither a manifest nor a journal"
        found = self.assert_found(self.problem(self.store, what))
        self.assertEqual((found.manifest, found.after), (None, 0))

    def test_a_journal_from_the_first_revision_on_needs_no_manifest(self) -> None:
        self.manifest_path.unlink()
        [segment] = self.segments()
        for first, after in ((1, 0), (2, 1)):
            for path in self.segments():
                path.rename(self.store / f"journal-{first:020d}.log")
            found, findings = self.diagnosis()
            self.assertEqual(found.manifest, Manifest() if first == 1 else None)
            self.assertEqual(found.after, after)
            self.assertEqual(any("there is no manifest" in finding.what for finding in findings), first != 1)
        del segment

    def test_a_manifest_that_is_given(self) -> None:
        newest = self.manifest_path
        other = self.store / f"manifest-{9:020d}"
        other.write_bytes(b"nonsense")
        found, findings = self.diagnosis(str(newest))
        self.assertEqual((found.manifest, found.after), (self.read(newest), 3))
        self.assertEqual([finding.kind for finding in findings], ["leftover"])
        found, findings = self.diagnosis()
        self.assertEqual(findings[0], self.problem(other, "the manifest is damaged", at=0, end=8))

    def read(self, path: Path) -> Manifest:
        return manifests.read(Disk(), str(path))

    def test_a_manifest_with_faults(self) -> None:
        manifest = self.manifest
        [*runs] = manifest.keyspaces[DATA]
        broken = Manifest(3, manifest.time_ms, manifest.next_page, {**manifest.keyspaces, "x": runs[:1]})
        manifests.save(Disk(), str(self.store), broken)
        where = f"page number {runs[0].pages[0].number} is used twice, or is not assigned yet"
        found, findings = self.diagnosis()
        self.assertEqual(findings[0], self.problem(self.manifest_path, f"keyspace 'x', run 0: {where}"))
        self.assertIsNone(found.manifest)

    def test_a_manifest_that_counts_wrong(self) -> None:
        manifest = self.manifest
        newer, base = manifest.keyspaces[DATA]
        for tombstones in (0, 2):
            run = SortedRun(newer.pages, newer.records, newer.weight, tombstones)
            changed = Manifest(3, manifest.time_ms, manifest.next_page, {**manifest.keyspaces, DATA: [run, base]})
            manifests.save(Disk(), str(self.store), changed)
            what = f"keyspace 'data', run 0: 1 removed record, and should be {tombstones}"
            found = self.assert_found(self.problem(self.manifest_path, what))
            self.assertEqual(found.miscounted, {DATA})

    def test_what_the_process_may_not_read_is_no_damage(self) -> None:
        before = Disk.read
        for part in ("manifest-", "pages/", "journal-0"):

            def read(disk: Disk, path: str, part: str = part) -> bytes:
                if part in path:
                    raise PermissionError(errno.EACCES, "no")
                return before(disk, path)

            with patch.object(Disk, "read", read):
                self.assertRaises(PermissionError, self.diagnosis)


class PageTests(DiagnosisCase):
    def setUp(self) -> None:
        super().setUp()
        self.newer, self.base = self.manifest.keyspaces[DATA]
        self.ref = self.base.pages[1]
        self.reader = Diagnosis(str(self.store)).listing.reader
        self.file = Path(self.reader.file_of(self.ref.number))
        self.content = self.file.read_bytes()

    def page_problem(self, ref: PageRef, what: str, depth: int = 1, **fields: Any) -> Finding:
        return self.problem(
            self.reader.file_of(ref.number),
            f"page {ref.number}: {what}",
            page=ref.number,
            keyspace=DATA,
            first=ref.first,
            stop=ref.stop,
            **fields,
        )

    def assert_bad(self, *expected: Finding, ref: PageRef | None = None, depth: int = 1, **fields: Any) -> None:
        ref = ref or self.ref
        found = self.assert_found(*expected)
        self.assertEqual(found.bad_pages, {ref.number: BadPage(DATA, depth, ref, **fields)})
        self.assertEqual(found.miscounted, set())
        named = sum(run_ref.size for runs in self.manifest.keyspaces.values() for run in runs for run_ref in run.pages)
        self.assertEqual(sum(self.advanced), named + sum(path.stat().st_size for path in self.segments()))

    def test_a_page_that_is_missing(self) -> None:
        self.file.unlink()
        self.assert_bad(self.page_problem(self.ref, "there is no such file", readable=0))

    def test_a_page_that_cannot_be_read(self) -> None:
        self.file.unlink()
        self.file.mkdir()
        [finding] = self.diagnosis()[1]
        self.assertEqual((finding.at, finding.end, finding.records, finding.readable), (None, None, None, 0))
        self.assertIn("Is a directory", finding.what)

    def test_a_byte_is_wrong(self) -> None:
        first, second = Page(self.content).record(0), Page(self.content).record(1)
        for content, length, readable in (
            (self.content.replace(first, first[:-1] + b"!"), "", 2),
            (self.content.replace(first, b"!" + first[1:]), "", 1),
            (self.content + b"x", f", and it is {len(self.content) + 1} bytes long instead of {self.ref.size}", 2),
            (
                self.content[: -len(second)] if self.content.endswith(second) else self.content[:-1],
                None,
                1,
            ),
        ):
            self.file.write_bytes(content)
            if length is None:
                length = f", and it is {len(content)} bytes long instead of {self.ref.size}"
            self.assert_bad(
                self.page_problem(
                    self.ref,
                    f"its checksum is wrong{length}",
                    at=12,
                    end=len(content),
                    records=2,
                    readable=readable,
                )
            )

    def test_a_file_that_does_not_begin_as_a_page(self) -> None:
        for content, end in ((b"", 0), (b"abc", 3), (b"nonsense" * 5, 8)):
            self.file.write_bytes(content)
            what = f"it does not begin as a page, and it is {len(content)} bytes long instead of {self.ref.size}"
            found, [finding] = self.diagnosis()
            self.assertEqual(
                finding, self.page_problem(self.ref, what, at=0, end=end, records=finding.records, readable=0)
            )
            self.assertEqual(found.bad_pages, {self.ref.number: BadPage(DATA, 1, self.ref)})
        self.file.write_bytes(b"XXXX" + self.content[4:])
        what = "it does not begin as a page"
        self.assert_bad(self.page_problem(self.ref, what, at=0, end=8, records=2, readable=2))

    def test_a_page_in_the_file_of_another(self) -> None:
        other = self.base.pages[2]
        file = Path(self.reader.file_of(other.number))
        content = file.read_bytes()
        file.write_bytes(self.content)
        self.file.write_bytes(content)
        found, [one, two] = self.diagnosis()
        for finding, mine, theirs in ((one, self.ref, other), (two, other, self.ref)):
            what = f"it is page {theirs.number}; page {mine.number} is whole in the file of page {theirs.number}"
            self.assertEqual(finding, self.page_problem(mine, what, records=2, readable=2))
            self.assertEqual(found.bad_pages[mine.number], BadPage(DATA, 1, mine, True, theirs.number))

    def test_a_page_that_another_was_written_over(self) -> None:
        other = self.newer.pages[0]
        self.file.write_bytes(Path(self.reader.file_of(other.number)).read_bytes())
        what = f"it is page {other.number}"
        self.assert_bad(self.page_problem(self.ref, what, readable=0), is_other=True)

    def test_a_page_of_the_newest_run(self) -> None:
        [ref] = self.newer.pages
        Path(self.reader.file_of(ref.number)).unlink()
        self.assert_bad(self.page_problem(ref, "there is no such file", readable=0), ref=ref, depth=0)

    def test_a_page_that_was_written_wrong(self) -> None:
        manifest = self.manifest
        wrong = replace(self.ref, expires_ms=7)
        pages = [wrong if ref == self.ref else ref for ref in self.base.pages]
        base = SortedRun(pages, self.base.records, self.base.weight, self.base.tombstones)
        changed = Manifest(3, manifest.time_ms, manifest.next_page, {**manifest.keyspaces, DATA: [self.newer, base]})
        manifests.save(Disk(), str(self.store), changed)
        what = "its first record to expire does so at None, and should at 7"
        self.assert_bad(self.page_problem(wrong, what, records=2, readable=2), ref=wrong)


class JournalTests(DiagnosisCase):
    """The journal has the transactions 4, 5 and 6 after the manifest."""

    def make(self) -> None:
        super().make()
        [self.segment] = self.segments()
        frames = self.frames(self.segment)
        self.marks = [frame.start for frame in frames]
        self.whole = self.segment.read_bytes()[: frames[-1].end]  # without what is left of an older segment
        self.segment.write_bytes(self.whole)

    def damage(self, *frames: int, size: int | None = None) -> None:
        """Spoil some frames, and cut the file."""
        content = bytearray(self.whole)
        for number in frames:
            content[self.marks[number] + 20] ^= 1
        self.segment.write_bytes(bytes(content[:size]))

    def hole(self, start: int, end: int, after: int, revisions: tuple[int, int] | None = None) -> Finding:
        missing = "" if revisions is None else f", revisions {revisions[0]} to {revisions[1]} are missing"
        what = f"no frame of the journal can be read here, after revision {after}{missing}"
        return self.problem(self.segment, what, at=start, end=end, revisions=revisions)

    def after_gap(self, count: str, start: int, end: int, revisions: tuple[int, int]) -> Finding:
        what = f"{count} from here on can be read, but follow missing ones"
        return Finding(kind="note", file=str(self.segment), what=what, at=start, end=end, revisions=revisions)

    def assert_journal(self, *findings: Finding, revision: int, highest: int) -> Diagnosis:
        found = self.assert_found(*findings)
        self.assertEqual((found.journal.revision, found.journal.highest), (revision, highest))
        return found

    def test_its_end_is_unfinished(self) -> None:
        for left in (1, 20, len(self.whole) - self.marks[2] - 1):
            self.damage(size=self.marks[2] + left)
            found, findings = self.diagnosis()
            torn = left if left >= 16 else 0
            self.assertEqual((found.torn_bytes, found.journal_error), (torn, None))
            if torn:
                [note] = findings
                what = f"its end is unfinished ({torn} bytes) after a crash; the next start cuts it off"
                self.assertEqual(note, Finding(kind="note", file=str(self.segment), what=what))
            else:
                self.assertEqual(findings, [])
            self.assertEqual((found.journal.revision, found.journal.highest), (5, 5))

    def test_a_frame_in_the_middle(self) -> None:
        self.damage(1)
        found = self.assert_journal(
            self.hole(self.marks[1], self.marks[2], 4, (5, 5)),
            self.after_gap("1 transaction", self.marks[2], len(self.whole), (6, 6)),
            revision=4,
            highest=6,
        )
        self.assertIn("damaged", found.journal_error or "")

    def test_the_first_frame(self) -> None:
        self.damage(0)
        self.assert_journal(
            self.hole(self.marks[0], self.marks[1], 3, (4, 4)),
            self.after_gap("2 transactions", self.marks[1], self.marks[2], (5, 6)),
            revision=3,
            highest=6,
        )

    def test_all_but_the_last(self) -> None:
        self.damage(0, 1)
        self.assert_journal(
            self.hole(self.marks[0], self.marks[2], 3, (4, 5)),
            self.after_gap("1 transaction", self.marks[2], len(self.whole), (6, 6)),
            revision=3,
            highest=6,
        )

    def test_bytes_between_frames_cost_nothing(self) -> None:
        self.segment.write_bytes(self.whole[: self.marks[1]] + b"nonsense" + self.whole[self.marks[1] :])
        self.assert_journal(self.hole(self.marks[1], self.marks[1] + 8, 4), revision=6, highest=6)

    def test_a_segment_is_missing(self) -> None:
        self.segment.unlink()
        (self.store / f"journal-{7:020d}.log").write_bytes(self.whole[: self.marks[0]])
        what = "revision 7 follows on 3, revisions 4 to 6 are missing"
        self.assert_journal(self.problem(self.store, what, revisions=(4, 6)), revision=3, highest=6)

    def test_a_header(self) -> None:
        for at, revision in ((1, 6), (len(SEGMENT_HEADER), 3)):  # by a wrong salt no frame is one
            content = bytearray(self.whole)
            content[at] ^= 1
            self.segment.write_bytes(bytes(content))
            found, findings = self.diagnosis()
            self.assertEqual((found.journal.revision, found.journal.highest), (revision, revision))
            self.assertEqual(findings[0], self.hole(0, self.marks[0], 3))
            self.assertEqual(findings[1:], [] if revision == 6 else [self.hole(self.marks[0], len(content), 3)])

    def test_the_end_of_a_segment_that_another_follows(self) -> None:
        following = self.store / f"journal-{6:020d}.log"
        salt_header = self.whole[: self.marks[0]]
        following.write_bytes(salt_header + self.whole[self.marks[2] :])
        self.segment.write_bytes(self.whole[: self.marks[2]])
        self.assert_journal(revision=6, highest=6)
        self.segment.write_bytes(self.whole[: self.marks[1]])
        self.assert_journal(
            self.problem(self.store, "revision 6 follows on 4, revisions 5 to 5 are missing", revisions=(5, 5)),
            Finding(
                kind="note",
                file=str(following),
                what="1 transaction from here on can be read, but follow missing ones",
                at=self.marks[0],
                end=following.stat().st_size,
                revisions=(6, 6),
            ),
            revision=4,
            highest=6,
        )

    def test_an_empty_segment_after_missing_ones(self) -> None:
        self.segment.write_bytes(self.whole[: self.marks[1]])
        (self.store / f"journal-{9:020d}.log").write_bytes(self.whole[: self.marks[0]])
        what = "revision 9 follows on 4, revisions 5 to 8 are missing"
        self.assert_journal(self.problem(self.store, what, revisions=(5, 8)), revision=4, highest=8)

    def test_a_segment_under_two_names_is_read_once(self) -> None:
        for name in (f"journal-{1:020d}.log", f"journal-{2:020d}.log"):
            (self.store / name).write_bytes(self.whole)
        found, findings = self.diagnosis()
        self.assertEqual([finding.kind for finding in findings], ["leftover"] * 2)
        self.assertEqual((found.journal.revision, found.journal.highest), (6, 6))

    def test_a_segment_that_cannot_be_read_hides_no_other(self) -> None:
        (self.store / f"journal-{1:020d}.log").mkdir()
        (self.store / f"journal-{2:020d}.log").write_bytes(self.whole)
        self.segment.write_bytes(self.whole[: self.marks[1]])
        found, _ = self.diagnosis()
        self.assertEqual((found.journal.revision, found.journal.highest), (6, 6))

    def test_a_segment_that_was_renamed(self) -> None:
        """Its transactions are found under the wrong name."""
        renamed = self.store / f"journal-{1:020d}.log"
        self.segment.rename(renamed)
        (self.store / f"journal-{4:020d}.log").write_bytes(self.whole[: self.marks[0]])
        found, _ = self.diagnosis()
        self.assertEqual((found.journal.revision, found.journal.highest), (6, 6))


class CheckpointedTests(TestCase):
    def test_an_eventful_store_has_nothing_to_find(self) -> None:
        self.patch(run_writer, "PAGE_SIZE", 100)
        eventful(self.path / "store").end()
        found = Diagnosis(str(self.path / "store"))
        self.assertEqual(list(found.findings()), [])
