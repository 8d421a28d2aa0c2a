"""
Intact files under the names of others.

Whichever file takes the place of another, every answer is correct or an error, `check` names the file, and `repair`
saves the pages it finds in other files.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from itertools import combinations, pairwise, permutations
from pathlib import Path

from kvtwist.engine import compactor, journal, run_writer
from kvtwist.engine import manifest as manifests
from kvtwist.engine.disk import Disk
from kvtwist.engine.inspection.diagnosis import Diagnosis
from kvtwist.engine.limits import Limits
from kvtwist.engine.segment import segment_name
from kvtwist.engine.sorted_run import PageRef
from kvtwist.model import DATA, STAGED, Delete, Exists, StoreDamaged
from tests.support.engine import Engine, TestCase, put, result_of
from tests.support.old_format import age
from tests.support.tools import bytes_of, contents_of, eventful, kvtwist, objects, plain


def swap(one: Path, other: Path) -> None:
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def replace(one: Path, other: Path) -> None:
    shutil.copy(other, one)


class SwappedCase(TestCase):
    """A store of several runs in several keyspaces, with tiny pages, and copies of it to damage."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(run_writer, "PAGE_SIZE", 100)
        self.patch(compactor, "compaction_due", lambda runs: [])
        self.patch(journal, "EXTENT", 300)
        self.store = self.path / "store"
        self.chronicle = eventful(self.store)
        self.chronicle.end()
        self.copy = self.path / "copy"

    def pages(self) -> list[Path]:
        found = sorted((self.copy / "pages").iterdir())
        self.assertGreater(len(found), 9)
        return found

    def refs(self) -> dict[str, tuple[str, PageRef]]:
        """Keyspace and `PageRef` of each page of the manifest, by the name of its file."""
        manifest = manifests.load(Disk(), str(self.store))
        listing = Diagnosis(str(self.store)).listing
        return {
            Path(listing.reader.file_of(ref.number)).name: (name, ref)
            for name, runs in manifest.keyspaces.items()
            for run in runs
            for ref in run.pages
        }

    def spoiled(self, how: object, pairs: Iterator[tuple[Path, Path]]) -> Iterator[tuple[Path, Path]]:
        """Damage a fresh copy for each pair of files."""
        for one, other in pairs:
            shutil.rmtree(self.copy, ignore_errors=True)
            shutil.copytree(self.store, self.copy)
            how(one, other)  # type: ignore[operator]
            yield one, other

    def begin(self) -> None:
        shutil.copytree(self.store, self.copy)

    def refused(self) -> int:
        """Read every record. Each answer is correct or an error; returns the number of errors."""
        engine = Engine(self.copy, wall=time.time(), limits=Limits(pages=1))
        engine.open()
        refused = 0
        for keyspace, records in self.chronicle.last.items():
            for key, record in [*records.items(), (b"k11", None), (b"nothing", None)]:
                try:
                    found = result_of(engine.store.get(keyspace, key))
                    self.assertEqual(plain({"": {key: found}} if found else {}).get("", {}).get(key), record)
                    exists = result_of(engine.store.transact([Exists(keyspace, key)], []))
                    self.assertEqual(exists.committed, record is not None)
                except StoreDamaged:
                    refused += 1
            for reverse in (False, True):
                try:
                    found_all = dict(engine.records(keyspace, reverse=reverse))
                    self.assertEqual(plain({"": found_all}).get("", {}), records)
                except StoreDamaged:
                    refused += 1
        engine.die()
        return refused


class SwappedPageTests(SwappedCase):
    def test_swapped_pages_are_never_read_as_each_other(self) -> None:
        self.begin()
        for one, other in self.spoiled(swap, combinations(self.pages(), 2)):
            self.assertGreater(self.refused(), 0, (one.name, other.name))
            named = {finding.file for finding in Diagnosis(str(self.copy)).findings() if finding.kind == "problem"}
            self.assertEqual(named, {str(one), str(other)})

    def test_a_page_overwritten_by_another_is_refused(self) -> None:
        self.begin()
        for one, other in self.spoiled(replace, permutations(self.pages(), 2)):
            not_needed = self.refs()[one.name][0] == STAGED  # cleared in the journal
            self.assertEqual(self.refused() == 0, not_needed, (one.name, other.name))

    def test_repair_puts_swapped_pages_back(self) -> None:
        self.begin()
        pages = self.pages()
        for one, other in self.spoiled(swap, pairwise(pages)):
            problems = objects(kvtwist("check", "--json", self.copy))[:-1]
            self.assertEqual([line["records"] for line in problems], [line["readable"] for line in problems])
            self.assertIn("is whole in the file of page", str(problems[0]["what"]))
            result = kvtwist("repair", "--yes", "--json", self.copy)
            self.assertEqual(result.exit_code, 0, result.output)
            self.assertEqual([line["type"] for line in objects(result)], ["problem", "problem", "repaired"])
            self.assertEqual(contents_of(self.copy), self.chronicle.last, (one.name, other.name))

    def test_repair_finds_a_renamed_page(self) -> None:
        self.begin()
        for page in self.pages()[::3]:
            shutil.rmtree(self.copy)
            self.begin()
            page.rename(page.with_name("OTk5_"))
            kvtwist("repair", "--yes", self.copy)
            self.assertEqual(contents_of(self.copy), self.chronicle.last)

    def test_salvage_saves_nothing_of_another_page(self) -> None:
        self.begin()
        refs = {path: self.refs()[path.name] for path in self.pages()}
        alike = [
            (one, other)
            for (one, (name, ref)), (other, (other_name, other_ref)) in permutations(refs.items(), 2)
            if name == other_name and ref.first < (other_ref.stop or b"") and other_ref.first < (ref.stop or b"")
        ]
        self.assertGreater(len(alike), 9)
        for one, other in self.spoiled(replace, iter(alike)):
            result = kvtwist("repair", "--yes", "--json", "--salvage", self.copy)
            lost = [line for line in objects(result) if line["type"] == "unreadable"]
            keyspace, ref = refs[one]
            if keyspace != STAGED:  # cleared in the journal
                self.assertEqual(
                    [(line["keyspace"], bytes_of(line, "first")) for line in lost], [(keyspace, ref.first)]
                )
            for name, records in contents_of(self.copy).items():
                self.assertLessEqual(records.items(), self.chronicle.last[name].items(), (one.name, other.name))

    def test_an_older_page_with_the_same_keys_is_refused(self) -> None:
        store = self.path / "again"
        engine = Engine(store)
        engine.open()
        for value in (b"old", b"new"):
            engine.put(b"k", value)
            engine.checkpoint()
        [new, old] = engine.store._keyspaces[DATA].tables.runs
        files = [Path(engine.storage.pages.file_of(run.pages[0].number)) for run in (new, old)]
        self.assertEqual(files[0].stat().st_size, files[1].stat().st_size)
        engine.die()
        replace(*files)
        engine.open()
        self.addCleanup(engine.die)
        error = self.failureResultOf(engine.store.get(DATA, b"k"), StoreDamaged)
        self.assertIn(f"{files[0]}: page {new.pages[0].number}: it is page {old.pages[0].number}", str(error.value))
        self.failureResultOf(engine.store.transact([Exists(DATA, b"k")], [Delete(DATA, b"k")]), StoreDamaged)

    def test_a_page_of_the_same_number_from_another_store_is_refused(self) -> None:
        files = []
        for value in (b"this", b"that"):
            engine = Engine(self.path / value.decode())
            engine.open()
            engine.do(put(b"a", value), put(b"b", value))
            engine.checkpoint()
            files.append(Path(engine.storage.pages.file_of(1)))
            engine.die()
        replace(*files)
        engine = Engine(self.path / "this")
        engine.open()
        self.addCleanup(engine.die)
        error = self.failureResultOf(engine.store.get(DATA, b"a"), StoreDamaged)
        self.assertIn("its checksum is", str(error.value))


class OtherFilesTests(SwappedCase):
    """Swapped and renamed manifests and segments: the store refuses to open, or its content is correct."""

    def setUp(self) -> None:
        super().setUp()
        self.begin()

    def start(self) -> str:
        """Open the store and compare its content; returns the error if it does not open."""
        try:
            self.assertEqual(contents_of(self.copy), self.chronicle.last)
        except StoreDamaged as error:
            return str(error)
        return ""

    def test_swapped_segments(self) -> None:
        segments = sorted(self.copy.glob("journal-0*"))
        self.assertEqual(len(segments), 2)
        for how in (swap, replace):
            for one, other in self.spoiled(how, permutations(segments, 2)):
                self.assertIn(f"where {20 if how is swap or one < other else 26} should be", self.start())

    def test_a_renamed_segment(self) -> None:
        for path in sorted(self.copy.glob("journal-0*")):
            for revision in (1, 20, 25, 27, 40):
                target = self.copy / segment_name(revision)
                if not target.exists():
                    path.rename(target)
                    self.assertNotEqual(self.start(), "", (path.name, revision))
                    target.rename(path)

    def test_a_segment_renamed_to_an_old_revision_is_reported_and_repaired(self) -> None:
        *_, last = sorted(self.copy.glob("journal-0*"))
        last.rename(self.copy / segment_name(1))
        [problem] = [line for line in objects(kvtwist("check", "--json", self.copy)) if line["type"] == "problem"]
        self.assertIn("holds revision 26, which does not belong in a file of that name", str(problem["what"]))
        self.assertEqual(kvtwist("repair", "--yes", self.copy).exit_code, 0)
        self.assertEqual(contents_of(self.copy), self.chronicle.last)

    def test_a_renamed_manifest(self) -> None:
        [path] = self.copy.glob("manifest-*")
        for revision in (18, 20, 30):
            target = self.copy / f"manifest-{revision:020d}"
            path.rename(target)
            self.assertIn(f"{target.name}: the manifest has revision 19", self.start())
            target.rename(path)
        self.assertEqual(self.start(), "")

    def test_swapped_manifests(self) -> None:
        [path] = self.copy.glob("manifest-*")
        older = self.copy / f"manifest-{7:020d}"
        older.write_bytes(manifests.encoded(manifests.Manifest(7)))
        swap(path, older)
        self.assertIn("the manifest has revision 7", self.start())


class FirstFormatTests(SwappedCase):
    """A store of the first format, in which pages do not contain their number."""

    def setUp(self) -> None:
        super().setUp()
        age(self.store)

    def test_it_is_read_checked_written_and_compacted(self) -> None:
        self.assertEqual(kvtwist("check", self.store).exit_code, 0)
        self.assertEqual(contents_of(self.store), self.chronicle.last)
        engine = Engine(self.store, wall=time.time())
        engine.open()
        engine.put(b"more", b"1")
        engine.checkpoint()
        engine.die()
        contents = contents_of(self.store)
        self.assertEqual(contents[DATA].keys() - self.chronicle.last[DATA].keys(), {b"more"})
        headers = {path.read_bytes()[:8] for path in self.store.glob("pages/*")}
        self.assertEqual(headers, {b"kvtpage1", b"kvtpage2"})
        self.assertEqual(kvtwist("check", self.store).exit_code, 0)
        self.assertEqual(kvtwist("compact", self.store).exit_code, 0)
        self.assertEqual({path.read_bytes()[:8] for path in self.store.glob("pages/*")}, {b"kvtpage2"})
        self.assertEqual(contents_of(self.store), contents)

    def test_swapped_pages_are_refused_if_keyspace_key_or_size_differ(self) -> None:
        refs = self.refs()
        self.begin()
        checked = 0
        for one, other in self.spoiled(swap, combinations(self.pages(), 2)):
            (name, ref), (other_name, other_ref) = refs[one.name], refs[other.name]
            if (name, ref.first, ref.size) != (other_name, other_ref.first, other_ref.size):
                self.assertGreater(self.refused(), 0, (one.name, other.name))
                self.assertGreater(sum(f.kind == "problem" for f in Diagnosis(str(self.copy)).findings()), 1)
                checked += 1
        self.assertGreater(checked, 20)

    def test_a_page_of_another_keyspace_is_refused(self) -> None:
        store = self.path / "again"
        engine = Engine(store)
        engine.open()
        rows = [(DATA, b"a", b"a1"), (DATA, b"b", b"11"), (DATA, b"c", b"c1"), ("atad", b"a", b"a1")]
        for keyspace, first, last in rows:
            engine.do(put(first, bytes(30), keyspace=keyspace), put(last, bytes(30), keyspace=keyspace))
        engine.checkpoint()
        engine.die()
        age(store)
        engine.open()
        tables = {name: keyspace.tables for name, keyspace in engine.store._keyspaces.items()}
        reader = engine.storage.pages
        file = {name: Path(reader.file_of(t.runs[0].pages[0].number)) for name, t in tables.items()}
        engine.die()
        self.assertEqual(len({path.stat().st_size for path in file.values()}), 1)
        replace(file["atad"], file[DATA])
        engine.open()
        self.addCleanup(engine.die)
        error = self.failureResultOf(engine.store.get("atad", b"a"), StoreDamaged)
        self.assertIn("it is a page of keyspace 'data'", str(error.value))

    def test_damage_is_salvaged(self) -> None:
        self.begin()
        [path] = [p for p in self.pages() if b"first 6" in p.read_bytes()]
        path.write_bytes(path.read_bytes().replace(b"first 6", b"first X"))
        problem, *_ = objects(kvtwist("check", "--json", self.copy))
        self.assertEqual((problem["records"], problem["readable"]), (2, 2))
        kvtwist("repair", "--yes", "--salvage", self.copy)
        self.assertEqual(contents_of(self.copy)[DATA].keys(), self.chronicle.last[DATA].keys())
