"""`kvtwist repair`: what it saves, what it reports as lost, and that it may be killed at any moment."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

from kvtwist.engine import compactor, journal, run_writer
from kvtwist.engine import manifest as manifests
from kvtwist.engine.disk import Disk
from kvtwist.engine.inspection.diagnosis import Diagnosis
from kvtwist.engine.inspection.folding import Wishes
from kvtwist.engine.repair import Repair
from kvtwist.model import DATA, STAGED, Clear, Put, StoreDamaged, StoreError
from tests.support.engine import Engine, FaultyDisk, SmallDisk, TestCase, WitnessDisk
from tests.support.tools import Chronicle, Contents, bytes_of, contents_of, eventful, kvtwist, objects

OCTETS = "application/octet-stream"


def put(key: bytes, value: bytes) -> Put:
    return Put(DATA, key, value, OCTETS)


class RepairCase(TestCase):
    """A store with tiny pages and without compaction."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(run_writer, "PAGE_SIZE", 100)
        self.patch(compactor, "compaction_due", lambda runs: [])
        self.patch(journal, "EXTENT", 300)
        self.store = self.path / "store"

    def damage(self, name: str, old: bytes, new: bytes) -> Path:
        """Replace `old` by `new` in the first file that contains it and whose name begins with `name`."""
        path = next(p for p in sorted(self.store.rglob(f"{name}*")) if p.is_file() and old in p.read_bytes())
        path.write_bytes(path.read_bytes().replace(old, new, 1))
        return path

    def repair(self, *options: str) -> list[dict[str, object]]:
        """Repair the store; returns the lines of `--json`."""
        self.assertEqual(kvtwist("check", self.store).exit_code, 1)
        result = kvtwist("repair", "--yes", "--json", *options, self.store)
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertEqual(kvtwist("check", self.store).exit_code, 0)
        return objects(result)

    def values(self) -> dict[bytes, bytes]:
        return {key: record[0] for key, record in contents_of(self.store).get(DATA, {}).items()}


class DamagedPageTests(RepairCase):
    """Two runs: a base with the keys `a` to `h`, and a newer one with `b`, `c`, `d` and the removal of `g`."""

    def setUp(self) -> None:
        super().setUp()
        chronicle = Chronicle.begin(self.store)
        chronicle.do(*(put(bytes([key]), b"old " + bytes([key]) * 10) for key in b"abcdefgh"))
        chronicle.engine.checkpoint()
        chronicle.do(*(put(bytes([key]), b"new " + bytes([key]) * 40) for key in b"bcd"))
        chronicle.engine.delete(b"g")
        chronicle.engine.checkpoint()
        chronicle.end()
        self.before = self.values()

    def test_a_lost_page_of_the_oldest_run_costs_its_own_records_only(self) -> None:
        self.damage("pages/", b"old aaaa", b"old aXaa")
        report = self.repair()
        lost = {bytes_of(line, "key") for line in report if line["type"] == "unsure"}
        self.assertIn(b"a", lost)
        self.assertLess(lost, {b"a", b"b", b"c", b"d"})
        self.assertEqual(self.values(), {key: value for key, value in self.before.items() if key not in lost})

    def test_a_record_in_a_newer_run_is_not_lost(self) -> None:
        self.damage("pages/", b"old bbbb", b"old bXbb")
        report = self.repair()
        self.assertNotIn(b"b", {bytes_of(line, "key") for line in report if line["type"] == "unsure"})
        self.assertEqual(self.values()[b"b"], self.before[b"b"])

    def test_older_versions_under_a_lost_page_do_not_come_back(self) -> None:
        self.damage("pages/", b"new cccc", b"new cXcc")
        report = self.repair()
        self.assertNotIn(b"c", self.values())
        self.assertLess(self.values().items(), self.before.items())
        kinds = {(line["type"], bytes_of(line, "key"), line["saved"]) for line in report if "key" in line}
        self.assertIn(("unsure", b"c", False), kinds)
        self.assertIn(("older", b"c", False), kinds)

    def test_keep_older_keeps_older_versions(self) -> None:
        self.damage("pages/", b"new cccc", b"new cXcc")
        report = self.repair("--keep-older")
        self.assertEqual(self.values()[b"c"], b"old cccccccccc")
        self.assertIn(b"c", {bytes_of(line, "key") for line in report if line["type"] == "older" and line["saved"]})

    def test_salvage_saves_records_of_a_damaged_page(self) -> None:
        self.damage("pages/", b"new cccc", b"new cXcc")
        report = self.repair("--salvage")
        self.assertEqual(self.values()[b"c"], self.before[b"c"].replace(b"new cccc", b"new cXcc"))
        self.assertIn(b"c", {bytes_of(line, "key") for line in report if line["type"] == "unsure" and line["saved"]})

    def test_records_before_and_after_missing_bytes_are_read(self) -> None:
        self.damage("pages/", b"old ffff", b"old f")
        self.repair("--salvage")
        values = self.values()
        self.assertEqual({**values, b"f": b""}, {**self.before, b"f": b""})

    def test_a_missing_page_costs_the_keys_of_its_range(self) -> None:
        [path] = [path for path in self.store.glob("pages/*") if b"new cccc" in path.read_bytes()]
        path.unlink()
        report = self.repair()
        [lost] = [line for line in report if line["type"] == "unreadable"]
        self.assertNotIn("records", lost)
        self.assertNotIn(b"c", self.values())

    def test_a_page_in_the_place_of_another_is_found(self) -> None:
        first, second = sorted(self.store.glob("pages/*"))[:2]
        second.write_bytes(first.read_bytes())
        self.repair()
        self.assertLessEqual(self.values().items(), self.before.items())

    def test_nothing_is_lost_of_a_keyspace_that_was_cleared_since(self) -> None:
        self.damage("pages/", b"new cccc", b"new cXcc")
        chronicle = Chronicle(Chronicle.begin(self.store).engine)
        chronicle.engine.do(Clear(DATA), put(b"z", b"after"))
        chronicle.end()
        self.assertEqual([line for line in self.repair() if "saved" in line], [])
        self.assertEqual(self.values(), {b"z": b"after"})

    def test_a_record_in_the_journal_is_not_lost(self) -> None:
        self.damage("pages/", b"new cccc", b"new cXcc")
        engine = Chronicle.begin(self.store).engine
        engine.put(b"c", b"in the journal")
        engine.die()
        report = self.repair()
        self.assertEqual(self.values()[b"c"], b"in the journal")
        self.assertNotIn(b"c", [bytes_of(line, "key") for line in report if "key" in line])


class DamagedJournalTests(RepairCase):
    def setUp(self) -> None:
        super().setUp()
        self.chronicle = Chronicle.begin(self.store)
        for number in range(8):
            self.chronicle.do(put(b"key", b"value %d" % number), put(b"%d" % number, b""))
        self.chronicle.end()

    def test_with_stop_at_gap_nothing_after_a_gap_is_applied(self) -> None:
        self.damage("journal", b"value 3", b"VALUE 3")
        report = self.repair("--stop-at-gap")
        self.assertEqual(contents_of(self.store), self.chronicle.states[3])
        self.assert_reported(report, [(4, 4)], saved=False)

    def test_transactions_after_a_gap_are_saved(self) -> None:
        for gaps in ([4], [2, 6], [1, 4], [3, 4, 5]):
            with self.subTest(gaps=gaps):
                copy = self.path / "copy"
                shutil.copytree(self.store, copy)
                for gap in gaps:
                    self.damage("journal", b"value %d" % (gap - 1), b"VALUE %d" % (gap - 1))
                report = self.repair()
                lost = {b"%d" % (gap - 1) for gap in gaps}
                kept = {b"%d" % number: b"" for number in range(8)}
                self.assertEqual(self.values(), {k: kept[k] for k in kept if k not in lost} | {b"key": b"value 7"})
                missing = [(3, 5)] if gaps == [3, 4, 5] else [(gap, gap) for gap in gaps]
                self.assert_reported(report, missing, saved=True)
                shutil.rmtree(self.store)
                copy.rename(self.store)

    def assert_reported(self, report: list[dict[str, Any]], missing: list[tuple[int, int]], saved: bool) -> None:
        """All missing revisions, and every change after them, are reported once."""
        found = [(line["first_revision"], line["last_revision"]) for line in report if line["type"] == "missing"]
        self.assertEqual(found, missing)
        gone = {revision for first, last in missing for revision in range(first, last + 1)}
        later = [revision for revision in range(missing[0][0], 9) if revision not in gone]
        behind = [(line["revision"], bytes_of(line, "key")) for line in report if line["type"] == "behind"]
        self.assertEqual(behind, [(r, key) for r in later for key in (b"key", b"%d" % (r - 1))])
        self.assertEqual({line["saved"] for line in report if line["type"] == "behind"}, {saved})
        self.assertEqual(report[-1]["changes_behind_a_gap"], len(behind))
        self.assertEqual(report[-1]["changes_behind_a_gap_saved"], len(behind) if saved else 0)

    def test_a_flipped_byte_costs_only_its_transaction_with_syncs_and_without(self) -> None:
        for sync in (True, False):
            with self.subTest(sync=sync):
                shutil.rmtree(self.store)
                engine = Engine(self.store, sync=sync)
                engine.open()
                for number in range(200):
                    engine.put(b"%03d" % number, b"value")
                engine.die()
                [segment] = self.store.glob("journal-0*")
                content = segment.read_bytes()
                segment.write_bytes(content[:500] + bytes([content[500] ^ 1]) + content[501:])
                with self.assertRaisesRegex(StoreDamaged, f"{segment.name}: damaged at byte"):
                    engine.open()
                self.assertEqual(kvtwist("check", self.store).exit_code, 1)
                report = self.repair()
                [lost] = [line["first_revision"] for line in report if line["type"] == "missing"]
                self.assertEqual(self.values(), {b"%03d" % n: b"value" for n in range(200) if n != lost - 1})

    def test_damage_without_a_gap_costs_nothing(self) -> None:
        self.damage("journal", b"kvtwist journal1", b"KVTWIST JOURNAL1")
        self.repair()
        self.assertEqual(contents_of(self.store), self.chronicle.last)

    def test_revisions_continue_after_the_highest_one(self) -> None:
        self.damage("journal", b"value 3", b"VALUE 3")
        report = self.repair()
        self.assertGreater(report[-1]["revision"], 8)

    def test_the_time_continues_after_the_latest_one(self) -> None:
        engine = Chronicle.begin(self.store).engine
        engine.wall += 10**4  # a step that the timeline follows
        engine.put(b"expired", b"", ttl_ms=1000)
        engine.wall += 2
        engine.put(b"stays", b"", ttl_ms=1000)
        now_ms = engine.now_ms()
        engine.die()
        self.damage("journal", b"kvtwist journal1", b"KVTWIST JOURNAL1")
        self.repair()
        manifest = manifests.load(Disk(), str(self.store))
        self.assertGreaterEqual(manifest.time_ms, now_ms)
        data = b"".join(path.read_bytes() for path in self.store.glob("pages/*"))
        self.assertEqual((b"expired" in data, b"stays" in data), (False, True))

    def test_a_missing_segment_is_a_gap(self) -> None:
        engine = Chronicle.begin(self.store).engine
        assert isinstance(engine.disk, FaultyDisk)
        engine.disk.fail("rename", errno.EIO, path="manifest")
        engine.checkpoint()
        engine.put(b"more", b"")
        engine.die()
        sorted(self.store.glob("journal-0*"))[0].unlink()
        [missing] = [line for line in self.repair() if line["type"] == "missing"]
        self.assertEqual((missing["first_revision"], missing["last_revision"]), (1, 8))
        self.assertEqual(self.values(), {b"more": b""})


class DamagedManifestTests(RepairCase):
    def setUp(self) -> None:
        super().setUp()
        self.chronicle = eventful(self.store)
        self.chronicle.end()

    def manifest(self) -> Path:
        return sorted(self.store.glob("manifest-*"))[-1]

    def test_without_a_manifest_the_store_is_made_from_its_pages(self) -> None:
        for spoil in (Path.unlink, lambda path: path.write_bytes(b"nothing")):
            shutil.rmtree(self.path / "copy", ignore_errors=True)
            shutil.copytree(self.store, self.path / "copy")
            spoil(self.manifest())
            self.assertEqual(self.repair()[-1]["basis"], "pages")
            self.assertEqual(contents_of(self.store), self.chronicle.last)
            shutil.rmtree(self.store)
            shutil.copytree(self.path / "copy", self.store)

    def test_an_older_manifest_is_used_if_its_pages_and_journal_are_there(self) -> None:
        chronicle = Chronicle.begin(self.store)
        assert isinstance(chronicle.engine.disk, FaultyDisk)
        chronicle.engine.disk.fail("remove", errno.EIO, times=100)
        chronicle.engine.disk.fail("rename", errno.EIO, path="spare", times=100)
        chronicle.engine.checkpoint()
        chronicle.engine.disk.heal()
        chronicle.engine.put(b"k05", b"behind both")
        chronicle.end()
        self.assertEqual(len(list(self.store.glob("manifest-*"))), 2)
        before = contents_of(self.store)
        self.manifest().write_bytes(b"nothing")
        self.assertEqual(self.repair()[-1]["basis"], "older manifest")
        self.assertEqual(contents_of(self.store), before)

    def test_an_older_manifest_is_not_used_if_later_changes_are_missing(self) -> None:
        chronicle = Chronicle.begin(self.store)
        chronicle.engine.put(b"since", b"the older manifest")
        assert isinstance(chronicle.engine.disk, FaultyDisk)
        chronicle.engine.disk.fail("remove", errno.EIO, times=100)
        chronicle.engine.checkpoint()
        chronicle.engine.disk.heal()
        chronicle.end()
        self.assertEqual(len(list(self.store.glob("manifest-*"))), 2)
        for path in self.store.glob("journal-0*"):
            path.unlink()
        self.manifest().write_bytes(b"nothing")
        self.assertEqual(self.repair()[-1]["basis"], "pages")
        self.assertEqual(self.values()[b"since"], b"the older manifest")

    def test_pages_without_a_manifest_are_not_removed(self) -> None:
        for path in [self.manifest(), *self.store.glob("journal-*")]:
            path.unlink()
        pages = set(self.store.glob("pages/*"))
        self.assertRaises(StoreError, Chronicle.begin, self.store)
        self.assertEqual(set(self.store.glob("pages/*")), pages)
        self.repair()
        self.assertEqual(
            contents_of(self.store), {**self.chronicle.states[19], STAGED: self.chronicle.states[19][STAGED]}
        )


class SafetyTests(RepairCase):
    """The store of `eventful` with a damaged page and a damaged segment."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(run_writer, "PAGE_SIZE", 250)
        self.chronicle = eventful(self.store)
        self.chronicle.end()
        self.spoil(self.store)
        self.originals = {path: path.read_bytes() for path in self.store.rglob("*") if self.is_original(path)}

    def spoil(self, store: Path) -> None:
        for name, part in (("pages/", b"second"), ("journal-0*26", b"behind 2")):
            path = next(p for p in sorted(store.glob(f"{name}*")) if part in p.read_bytes())
            path.write_bytes(path.read_bytes().replace(part, part.upper(), 1))

    @staticmethod
    def is_original(path: Path) -> bool:
        return path.is_file() and path.name != "lock"

    def carry_out(self, disk: Disk) -> None:
        diagnosis = Diagnosis(str(self.store))
        list(diagnosis.findings())
        Repair(diagnosis, Wishes(), lambda _: None).carry_out(disk)

    def expected(self) -> Contents:
        copy = self.path / "expected"
        shutil.copytree(self.store, copy)
        self.assertEqual(kvtwist("repair", "--yes", copy).exit_code, 0)
        return contents_of(copy)

    def test_it_may_be_killed_at_any_moment(self) -> None:
        expected = self.expected()
        self.die_at_each_moment(expected)

    def test_it_may_be_killed_at_any_moment_without_a_manifest(self) -> None:
        next(iter(self.store.glob("manifest-*"))).write_bytes(b"nothing")
        self.originals = {path: path.read_bytes() for path in self.store.rglob("*") if self.is_original(path)}
        self.die_at_each_moment(self.expected())

    def die_at_each_moment(self, expected: Contents) -> None:
        album = self.path / "album"
        album.mkdir()
        disk = WitnessDisk(self.store, album, lambda: None)
        self.addCleanup(disk.put_away)
        disk.trust()
        self.carry_out(disk)
        opened = 0
        seen: set[frozenset[tuple[str, bytes]]] = set()
        for moment in disk.moments:
            for state in (moment.killed, moment.powerless):
                files = frozenset((str(p.relative_to(state)), p.read_bytes()) for p in state.rglob("*") if p.is_file())
                if files not in seen:
                    opened += self.look(state, expected, moment.what)
                seen.add(files)
        self.assertGreater(opened, 0)

    def look(self, state: Path, expected: Contents, what: str) -> bool:
        """Whether the store opens. If so it is the repaired one, and all old files are kept."""
        for variant in ("started", "repaired"):
            copy = self.path / variant
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(state, copy)
        opens = True
        try:
            self.assertEqual(contents_of(self.path / "started"), expected, what)
        except StoreError:
            opens = False
        else:
            engine = Chronicle.begin(self.path / "started").engine
            engine.checkpoint()
            engine.die()
            self.assert_kept(self.path / "started", what)
        repaired = kvtwist("repair", "--yes", self.path / "repaired")
        self.assertEqual(repaired.exit_code, 0, f"{what}: {repaired.output}")
        self.assertEqual(contents_of(self.path / "repaired"), expected, what)
        self.assert_kept(self.path / "repaired", what)
        return opens

    def assert_kept(self, store: Path, what: str) -> None:
        there = [path.read_bytes() for path in store.rglob("*") if path.is_file()]
        for path, content in self.originals.items():
            if path.name != journal.SPARE:
                self.assertIn(content, there, f"{what}: {path.name}")

    def test_a_full_disk_leaves_the_store_unchanged(self) -> None:
        used = SmallDisk(self.store, 0).used()
        refused = 0
        for more in range(0, 4000, 250):
            disk = SmallDisk(self.store, used + more)
            try:
                self.carry_out(disk)
            except (OSError, StoreError):
                refused += 1
                disk.abandon()
                for path, content in self.originals.items():
                    self.assertEqual(path.read_bytes(), content)
            else:
                break
            for kept in self.store.glob("damaged-*"):
                shutil.rmtree(kept)
        self.assertGreater(refused, 0)
        self.assertEqual(kvtwist("check", self.store).exit_code, 0)

    def test_a_file_system_without_links_gets_copies(self) -> None:
        disk = FaultyDisk()
        disk.fail("link", errno.EPERM, times=1000)
        self.carry_out(disk)
        self.assert_kept(self.store, "copies")
        self.assertEqual(kvtwist("check", self.store).exit_code, 0)

    def test_without_yes_nothing_is_changed(self) -> None:
        before = {path: path.read_bytes() for path in self.store.rglob("*") if path.is_file()}
        result = kvtwist("repair", self.store)
        self.assertEqual(result.exit_code, 1)
        self.assertIn("--yes", result.output)
        self.assertEqual(before, {path: path.read_bytes() for path in self.store.rglob("*") if path.is_file()})

    def test_two_repairs_in_a_second_keep_both_originals(self) -> None:
        self.carry_out(Disk())
        self.damage("pages/", b"kvtpage2", b"KVTPAGE2")
        self.carry_out(Disk())
        self.assertEqual(len(list(self.store.glob("damaged-*"))), 2)

    def test_an_undamaged_store_is_left_unchanged(self) -> None:
        shutil.rmtree(self.store)
        eventful(self.store).end()
        result = kvtwist("repair", "--yes", self.store)
        self.assertEqual((result.exit_code, result.output), (0, "nothing to repair\n"))
        self.assertEqual(list(self.store.glob("damaged-*")), [])
