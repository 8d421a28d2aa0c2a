"""Long work is done in steps: a read never waits for a whole compaction."""

from __future__ import annotations

from kvtwist.engine import run_writer
from kvtwist.engine.memtable import Memtable
from kvtwist.engine.page import Page
from kvtwist.engine.pages import PageDirectory
from kvtwist.engine.run_writer import STEP, PageNumbers, write_compacted, write_frozen
from kvtwist.engine.sorted_run import SortedRun
from kvtwist.model import Record
from tests.support.engine import FaultyDisk, TestCase


class StepTests(TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.pages = PageDirectory(FaultyDisk(), str(self.path / "pages"))
        self.numbers = PageNumbers(1)

    def written(self, count: int, expires_ms: int | None) -> SortedRun:
        table = Memtable()
        for number in range(count):
            table.set(b"%06d" % number, Record(b"v", "text/plain", 1, 1, expires_ms))
        steps = write_frozen(self.pages, "data", self.numbers, table, 0, True)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                run: SortedRun = end.value
                return run

    def test_a_compaction_that_keeps_nothing_stops_as_often_as_one_that_keeps_all(self) -> None:
        looked_at = []
        records = Page.records

        def counted(page: Page):  # type: ignore[no-untyped-def]
            for pair in records(page):
                looked_at[-1] += 1
                yield pair

        self.patch(Page, "records", counted)
        self.patch(run_writer, "PAGE_SIZE", 2000)
        for expires_ms in (None, 1000):
            run = self.written(5 * STEP, expires_ms)
            looked_at[:] = [0]
            steps = write_compacted(self.pages, "data", self.numbers, [run], 2000, True)
            for _ in steps:
                looked_at.append(0)
            self.assertEqual(sum(looked_at), 5 * STEP)
            # One record may be looked at ahead.
            self.assertLessEqual(max(looked_at), STEP + 1, expires_ms)
