"""
Whatever a kill or a power loss leaves of a store, it opens with all that was acknowledged and nothing that was not
whole, and goes on.

A few thousand states here; a hundred thousand with `tox -e crash`. docs/testing.md says what they are.
"""

from __future__ import annotations

import gc

from tests.crash.campaign import Campaign
from tests.support.engine import TestCase


class CrashStateTests(TestCase):
    def test_every_state_is_survived(self) -> None:
        campaign = Campaign.from_environment()
        print(f"\nfirst seed: {campaign.seed}")
        try:
            campaign.run()
        finally:
            print(campaign)
            gc.collect()
            self.flushLoggedErrors()  # of processes that have died
        self.assertGreaterEqual(len(campaign.tally.distinct), campaign.states)
