"""`kvtwist reset-time` on a store that followed a clock which was ten years ahead."""

from __future__ import annotations

import errno
import os
import time
from signal import SIGINT
from unittest.mock import patch

from kvtwist.cli import reset_time
from kvtwist.cli.exits import Interrupted
from kvtwist.cli.interrupts import Interrupts
from kvtwist.engine.disk import Disk
from kvtwist.model import DATA, HISTORY, JSON, OCTETS, STAGED, Append, Put
from tests.support.engine import Engine, TestCase
from tests.support.tools import Contents, contents_of, kvtwist, objects

YEARS = 10 * 365 * 86_400
HOUR_MS = 3_600_000


class ResetTimeTests(TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.store = self.path / "store"

    def glitch(self, clean: bool = True, many: int = 0) -> None:
        """Make a store written under a correct clock, then restarted under one that is ten years ahead."""
        right = Engine(self.store, wall=time.time())
        right.open()
        right.do(Put(DATA, b"old", b"1", JSON), Put(DATA, b"an hour", b"2", JSON, HOUR_MS))
        right.do(Append(HISTORY, b"h\0", b"before", OCTETS, HOUR_MS))
        right.close()
        right.die()
        wrong = Engine(self.store, wall=time.time() + YEARS)
        wrong.open()
        self.assertIsNone(wrong.get(b"an hour"))
        wrong.do(Put(DATA, b"new", b"3", JSON), Put(DATA, b"new hour", b"4", JSON, HOUR_MS))
        wrong.do(Put(STAGED, b"new", b"5", JSON), Append(HISTORY, b"h\0", b"after", OCTETS, HOUR_MS))
        wrong.do(*(Put(STAGED, b"%06d" % number, b"6", JSON) for number in range(many)))
        if clean:
            wrong.close()
        wrong.die()

    def reset(self) -> dict[str, object]:
        result = kvtwist("reset-time", "--json", self.store)
        self.assertEqual(result.exit_code, 0, result.output)
        [report] = objects(result)
        return report

    def assert_right(self, found: Contents) -> None:
        now_ms = time.time() * 1000
        for records in found.values():
            for _, _, modified_ms, expires_ms in records.values():
                self.assertTrue(now_ms - 600_000 < modified_ms <= now_ms)
                self.assertTrue(expires_ms is None or now_ms < expires_ms <= now_ms + HOUR_MS)
        values = {name: {key: record[0] for key, record in records.items()} for name, records in found.items()}
        self.assertEqual(values[DATA], {b"old": b"1", b"an hour": b"2", b"new": b"3", b"new hour": b"4"})
        self.assertEqual(values[STAGED][b"new"], b"5")
        self.assertEqual(list(values[HISTORY].values()), [b"before"])

    def test_records_get_correct_times(self) -> None:
        for clean in (True, False):
            self.store = self.path / f"store {clean}"
            self.glitch(clean)
            report = self.reset()
            self.assertEqual(report["changed"], 4)
            assert isinstance(report["before_ms"], int) and isinstance(report["time_ms"], int)
            self.assertLess(abs(report["before_ms"] - report["time_ms"] - YEARS * 1000), 600_000)
            self.assert_right(contents_of(self.store))
            self.assertEqual(kvtwist("check", self.store).exit_code, 0)

    def test_a_start_continues_at_the_clocks_time_with_new_revisions(self) -> None:
        self.glitch()
        before = Engine(self.store, wall=time.time())
        before.open()
        assigned = before.storage.commit.assigned
        before.die()
        self.reset()
        engine = Engine(self.store, wall=time.time())
        engine.open()
        self.addCleanup(engine.die)
        self.assertLess(abs(engine.now_ms() - time.time() * 1000), 600_000)
        self.assertGreater(engine.storage.commit.assigned, assigned)

    def test_records_are_reset_in_batches(self) -> None:
        self.patch(reset_time, "BATCH_OPERATIONS", 10)
        self.glitch(many=25)
        self.assertEqual(self.reset()["changed"], 29)
        self.assert_right(contents_of(self.store))

    def test_large_values_make_small_batches(self) -> None:
        self.patch(reset_time, "BATCH_BYTES", 2)
        self.glitch(many=5)
        self.assertEqual(self.reset()["changed"], 9)
        self.assert_right(contents_of(self.store))

    def test_an_interrupted_reset_can_be_repeated(self) -> None:
        self.patch(reset_time, "BATCH_OPERATIONS", 2)
        self.glitch(many=10)
        with patch.object(Interrupts, "check", side_effect=[None, None, Interrupted(SIGINT)]):
            self.assertEqual(kvtwist("reset-time", self.store).exit_code, 130)
        self.reset()
        self.assert_right(contents_of(self.store))

    def test_a_second_reset_changes_nothing(self) -> None:
        self.glitch()
        self.reset()
        before = {path: path.stat().st_mtime_ns for path in self.store.rglob("[mp]*-*")}
        self.assertEqual(self.reset()["changed"], 0)
        self.assertRegex(kvtwist("reset-time", self.store).stdout, r"\A0 records had later times; .*Z\n\Z")
        self.assertEqual({path: path.stat().st_mtime_ns for path in self.store.rglob("[mp]*-*")}, before)

    def test_the_time_is_reset_even_if_no_record_is_later(self) -> None:
        self.glitch()
        self.reset()
        wrong = Engine(self.store, wall=time.time() + YEARS)
        wrong.open()
        wrong.delete(b"old")
        wrong.close()
        wrong.die()
        self.assertEqual(self.reset()["changed"], 0)
        engine = Engine(self.store, wall=time.time())
        engine.open()
        self.addCleanup(engine.die)
        self.assertLess(abs(engine.now_ms() - time.time() * 1000), 600_000)

    def test_an_error_while_writing_the_time_is_reported(self) -> None:
        def rename(disk: Disk, source: str, target: str) -> None:
            if "manifest-" in target:
                raise OSError(errno.EIO, os.strerror(errno.EIO), target)
            before(disk, source, target)

        before = Disk.rename
        self.glitch()
        with patch.object(Disk, "rename", rename):
            self.assertEqual(kvtwist("reset-time", self.store).exit_code, 4)
        self.reset()
        self.assert_right(contents_of(self.store))

    def test_the_text_output(self) -> None:
        self.glitch()
        result = kvtwist("reset-time", self.store)
        self.assertRegex(
            result.stdout,
            r"\A4 records had later times; the last recorded time was \S+Z and is now the clock's\n\Z",
        )
        self.assertEqual(result.stderr, "")
