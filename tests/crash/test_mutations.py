"""The checker notices whatever is wrong: without any one of its syncs, or in another order, the engine does not survive."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from tests.crash.campaign import check_seed
from tests.crash.history import Counterexample
from tests.crash.mutations import LOST_SYNCS, WRONG_ORDERS, LostSync, askers
from tests.crash.workload import Workload
from tests.support.engine import TestCase
from tests.support.memorydisk import Forgotten, new_place

SEEDS = 20
"""So many histories are tried before something counts as not noticed."""


class MutationCase(TestCase):
    def assert_noticed(
        self, seed: int, wrong: AbstractContextManager[object], forgotten: Forgotten | None = None
    ) -> None:
        with wrong:
            for following in (seed, *range(SEEDS)):
                try:
                    check_seed(following, tries=2, forgotten=forgotten)
                except Counterexample as counterexample:
                    print(counterexample)
                    self.flushLoggedErrors()
                    return
        self.fail("nobody noticed")


class LostSyncTests(MutationCase):
    """One test for each sync; see below."""

    def test_no_sync_of_the_engine_is_missing_here(self) -> None:
        unknown: set[tuple[str, tuple[str, ...]]] = set()
        unseen = {lost.name: lost for lost in LOST_SYNCS}

        def forgotten(call: str, path: str) -> bool:
            who = askers()
            found = [lost for lost in LOST_SYNCS if lost.is_it(call, path)]
            for lost in found:
                unseen.pop(lost.name, None)
            if not found:
                unknown.add((call, who))
            return False

        for seed in range(10):
            _live(seed, forgotten)
        gc.collect()
        self.flushLoggedErrors()  # of processes that have died
        self.assertEqual(unknown, set())
        self.assertEqual(list(unseen), [])


class WrongOrderTests(MutationCase):
    """One test for each wrong order; see below."""


def _live(seed: int, forgotten: Forgotten) -> None:
    with new_place() as place:
        workload = Workload(seed, place, forgotten)
        with workload.settings.applied():
            for _ in workload.run(lives=3):
                pass


def _lost(lost: LostSync) -> Callable[[LostSyncTests], None]:
    def test(self: LostSyncTests) -> None:
        self.assert_noticed(lost.seed, nullcontext(), lost.is_it)

    return test


def _wrong(order: Callable[[], AbstractContextManager[object]]) -> Callable[[WrongOrderTests], None]:
    def test(self: WrongOrderTests) -> None:
        self.assert_noticed(1, order())

    return test


for lost_sync in LOST_SYNCS:
    setattr(LostSyncTests, f"test_{lost_sync.name.replace(',', '').replace(' ', '_')}", _lost(lost_sync))
for wrong_order in WRONG_ORDERS:
    setattr(WrongOrderTests, f"test_{wrong_order.__name__}", _wrong(wrong_order))
