"""`kvtwist dump`, `stats` and `compact`."""

from __future__ import annotations

import re
import time
from signal import SIGINT
from unittest.mock import patch

from kvtwist.cli.exits import Interrupted
from kvtwist.cli.interrupts import Interrupts
from kvtwist.model import DATA, Put
from tests.support.engine import Engine
from tests.support.tools import bytes_of, contents_of, eventful, kvtwist, objects
from tests.unit.cli.test_repair import RepairCase


class DumpTests(RepairCase):
    def setUp(self) -> None:
        super().setUp()
        self.chronicle = eventful(self.store)
        self.chronicle.end()

    def dump(self, *options: str, status: int = 0) -> list[dict[str, object]]:
        result = kvtwist("dump", "--json", self.store, *options)
        self.assertEqual(result.exit_code, status, result.output)
        text = kvtwist("dump", self.store, *options)
        self.assertEqual(text.exit_code, status)
        self.assertNotIn("\0", text.stdout)
        return objects(result)

    def test_records_are_the_live_ones(self) -> None:
        found: dict[str, dict[bytes, tuple[object, ...]]] = {}
        for line in self.dump("--records"):
            record = (bytes_of(line, "value"), line["media_type"], line["modified_ms"], line["expires_ms"])
            found.setdefault(str(line["keyspace"]), {})[bytes_of(line, "key")] = record
        self.assertEqual(found, self.chronicle.last)

    def test_the_manifest_and_the_pages(self) -> None:
        lines = self.dump()
        [manifest] = [line for line in lines if line["type"] == "manifest"]
        self.assertEqual(manifest["revision"], 19)
        named = {line["page"] for line in lines if line["type"] == "entry"}
        pages = [line for line in lines if line["type"] == "page"]
        self.assertEqual({line["page"] for line in pages}, named)
        runs = [line for line in lines if line["type"] == "run"]
        self.assertEqual(sum(int(str(run["pages"])) for run in runs), len(pages))
        self.assertEqual([run["run"] for run in runs if run["keyspace"] == DATA], [0, 1, 2])

    def test_a_page(self) -> None:
        page = next(line["page"] for line in self.dump("--pages") if line["first"] == "k00" and line["run"] == 1)
        lines = self.dump("--page", str(page))
        self.assertEqual(lines[0]["key"], "k00")
        self.assertTrue(lines[1]["removed"])

    def test_a_damaged_page_is_read_as_far_as_possible(self) -> None:
        self.damage("pages/", b"first 7", b"FIRST 7")
        [bad] = [line for line in self.dump("--pages", status=1) if line["type"] == "damaged"]
        page = re.search(r"page (\d+)", str(bad["what"]))
        assert page is not None
        first, *records = self.dump("--page", page[1], status=1)
        self.assertEqual(first["type"], "damaged")
        self.assertEqual([line["key"] for line in records], ["k06", "k07"])

    def test_the_journal(self) -> None:
        lines = self.dump("--segments")
        changes = [line for line in lines if line["type"] == "change"]
        self.assertEqual([line["revision"] for line in changes if line["change"] == "clear"], [30])
        self.assertEqual({line["revision"] for line in changes}, set(range(20, 32)))
        self.assertEqual(len([line for line in lines if line["type"] == "segment"]), 2)

    def test_a_damaged_journal_is_read_on_after_the_damage(self) -> None:
        self.damage("journal-0", b"behind 1", b"BEHIND 1")
        lines = self.dump("--segments", status=1)
        self.assertEqual({line["revision"] for line in lines if line["type"] == "change"}, set(range(20, 32)) - {27})
        self.assertEqual(len([line for line in lines if line["type"] == "damaged"]), 1)
        result = kvtwist("dump", "--records", self.store)
        self.assertEqual(result.exit_code, 1)
        self.assertIn(f"run: kvtwist check {self.store}", result.stderr)

    def test_a_damaged_manifest_and_a_missing_page(self) -> None:
        self.assertEqual(self.dump("--page", "999", status=1)[0]["type"], "damaged")
        next(iter(self.store.glob("manifest-*"))).write_bytes(b"nothing")
        self.dump("--manifest", status=1)
        self.assertTrue(all(line["run"] is None for line in self.dump("--pages", status=1)))


class StatsTests(RepairCase):
    def stats(self, *options: str) -> list[dict[str, object]]:
        result = kvtwist("stats", "--json", self.store, *options)
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertEqual(kvtwist("stats", self.store, *options).exit_code, 0)
        return objects(result)

    def test_deep_figures_are_exact(self) -> None:
        chronicle = eventful(self.store)
        chronicle.end()
        store, *keyspaces = self.stats("--deep")
        self.assertEqual((store["revision"], store["segments"], store["leftovers"]), (19, 2, 0))
        for found in keyspaces:
            records = chronicle.last[str(found["keyspace"])]
            self.assertEqual(found["records"], len(records))
            self.assertEqual(found["bytes"], sum(len(key) + len(record[0]) for key, record in records.items()))
            largest = found["largest"]
            assert isinstance(largest, list)
            self.assertEqual(
                [line["size"] for line in largest], sorted((len(r[0]) for r in records.values()), reverse=True)[:10]
            )
        [data] = [found for found in keyspaces if found["keyspace"] == DATA]
        self.assertGreater(int(str(data["superseded_bytes"])), 0)
        self.assertEqual(data["expired"], 0)

    def test_figures_from_the_manifest_are_exact_for_one_run(self) -> None:
        engine = Engine(self.store, wall=time.time())
        engine.open()
        for number in range(20):
            engine.put(b"%02d" % number, b"v" * number, 10**9 if number == 3 else None)
        engine.close()
        _, fast = self.stats()
        _, deep = self.stats("--deep")
        for name in ("records", "bytes", "runs", "pages", "page_bytes", "removed", "next_expiry_ms"):
            self.assertEqual(fast[name], deep[name], name)
        self.assertEqual((fast["records"], deep["expiring"]), (20, 1))

    def test_damage_is_reported(self) -> None:
        eventful(self.store).end()
        self.damage("journal-0", b"behind 1", b"BEHIND 1")
        self.assertEqual(kvtwist("stats", self.store).exit_code, 0)
        result = kvtwist("stats", "--deep", self.store)
        self.assertEqual(result.exit_code, 1)
        self.assertIn("run: kvtwist check", result.stderr)


class CompactTests(RepairCase):
    def setUp(self) -> None:
        super().setUp()
        self.chronicle = eventful(self.store)
        self.chronicle.end()

    def test_each_keyspace_becomes_one_run(self) -> None:
        before = contents_of(self.store)
        result = kvtwist("compact", "--json", self.store)
        self.assertEqual(result.exit_code, 0, result.output)
        [report] = objects(result)
        self.assertLess(report["bytes_after"], report["bytes_before"])
        size = sum(p.stat().st_size for p in self.store.rglob("*") if p.is_file() and p.name != "lock")
        self.assertEqual(report["bytes_after"], size)
        self.assertEqual(contents_of(self.store), before)
        for found in objects(kvtwist("stats", "--deep", "--json", self.store))[1:]:
            self.assertEqual((found["runs"], found["removed"], found["superseded_bytes"]), (1, 0, 0))
        self.assertEqual(kvtwist("check", self.store).exit_code, 0)

    def test_expired_records_are_removed(self) -> None:
        engine = Engine(self.store, wall=time.time() - 100)
        engine.open()
        engine.do(Put(DATA, b"gone", b"secret", "text/plain", 1))
        engine.close()
        engine.die()
        self.assertEqual(kvtwist("compact", self.store).exit_code, 0)
        self.assertFalse(any(b"secret" in path.read_bytes() for path in self.store.glob("pages/*")))

    def test_compacting_twice_changes_nothing(self) -> None:
        kvtwist("compact", self.store)
        pages = {path: path.stat().st_mtime_ns for path in self.store.glob("pages/*")}
        self.assertEqual(kvtwist("compact", self.store).exit_code, 0)
        self.assertEqual({path: path.stat().st_mtime_ns for path in self.store.glob("pages/*")}, pages)

    def test_an_interrupt_leaves_the_store_unchanged(self) -> None:
        before = contents_of(self.store)
        with patch.object(Interrupts, "check", side_effect=[None, None, Interrupted(SIGINT)]):
            self.assertEqual(kvtwist("compact", self.store).exit_code, 130)
        self.assertEqual(contents_of(self.store), before)
        check = kvtwist("check", "--json", self.store)
        self.assertEqual(check.exit_code, 0)
        self.assertEqual([line for line in objects(check) if line["type"] == "leftover"], [])
