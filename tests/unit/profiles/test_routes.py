"""Routes of profiles as the router sees them: reads are not wrapped to refuse unknown query parameters."""

from __future__ import annotations

import re
from typing import cast

from twisted.trial.unittest import SynchronousTestCase

from kvtwist.interfaces import IStore
from kvtwist.profiles import PROFILES, Settings
from kvtwist.web.routing import Router


def with_key(rule: str) -> str:
    """A path that a rule matches."""
    return re.sub("<.*key>", "key", rule)


class RouteTests(SynchronousTestCase):
    def test_reads_of_a_key_are_called_directly(self) -> None:
        for name, profile in PROFILES.items():
            router = Router([profile(cast(IStore, None), Settings())])
            for rule in profile.app.url_map.iter_rules():
                if rule.rule.endswith("key>") and (rule.methods or set()) <= {"GET", "HEAD"}:
                    route, _ = router.find(b"GET", with_key(rule.rule))
                    self.assertIs(route.handler, getattr(profile, rule.endpoint), (name, rule.rule))

    def test_routes_with_a_key_at_the_end_are_found_without_werkzeug(self) -> None:
        for name, profile in PROFILES.items():
            router = Router([profile(cast(IStore, None), Settings())])
            for rule in profile.app.url_map.iter_rules():
                if rule.rule.endswith("key>"):
                    for method in rule.methods or ():
                        _, key = router.find(method.encode(), with_key(rule.rule))
                        self.assertEqual(key, "key", (name, method, rule.rule))
