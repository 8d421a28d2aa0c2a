"""`keys`: expiry to the second, and deletions by a filter while other requests change keys."""

from __future__ import annotations

import json

from twisted.internet import reactor

from kvtwist.engine import Limits
from kvtwist.profiles import Settings
from kvtwist.profiles.keys import DELETED_AT_ONCE
from tests.support.engine import result_of
from tests.unit.profiles.case import ProfileCase


class ExpiryTests(ProfileCase):
    profile = "keys"

    def test_a_key_is_gone_at_the_second(self) -> None:
        for target, body in (("/keys/a", b"1"), ("/keys", b'{"a":1}')):
            for seconds in (1, 60, 315_360_000):
                self.assertEqual(self.status("PUT", f"{target}?expire_in={seconds}", body), 201)
                self.engine.clock.advance(seconds - 0.25)
                self.assertEqual(self.status("GET", "/keys/a"), 200, (target, seconds))
                self.assertEqual(self.status("PUT", f"{target}?expire_in={seconds}", body), 200)
                self.engine.clock.advance(seconds - 0.25)
                self.assertEqual(self.status("GET", "/keys/a"), 200, (target, seconds))
                self.engine.clock.advance(0.25)
                self.assertEqual(self.status("GET", "/keys/a"), 404, (target, seconds))
                self.assertEqual(self.keys(), [])

    def test_a_put_without_expiry_makes_it_stay(self) -> None:
        self.ask("PUT", "/keys/a?expire_in=60", b"1")
        self.ask("PUT", "/keys/a", b"1")
        self.engine.clock.advance(3600)
        self.assertEqual(self.status("GET", "/keys/a"), 200)


class PagingTests(ProfileCase):
    profile = "keys"

    def test_no_page_passes_over_a_key_because_of_one_that_comes_in_between(self) -> None:
        # A page is scanned twice, and other requests are answered meanwhile.
        self.engine.store.limits = Limits(slice_entries=2)
        names = [f"a{number:02}" for number in range(20)]
        for iterations in range(12):
            self.put(*names)
            found: list[str] = []
            target = "/keys?limit=7"
            while target:
                page = self.begin("GET", target)
                for _ in range(iterations):
                    reactor.iterate(0)
                self.put(f"a{len(found):02}-{iterations}")
                answer = self.finished(page)
                assert isinstance(answer.body, bytes)
                found += json.loads(answer.body)
                target = str(answer.headers.get("Link", ""))[1:].partition(">")[0]
            self.assertEqual(len(found), len(set(found)))
            self.assertEqual([name for name in found if "-" not in name], names, iterations)
            self.assertEqual(self.status("DELETE", "/keys"), 204)


class LongKeyTests(ProfileCase):
    profile = "keys"

    def test_keys_are_listed_that_some_profile_takes(self) -> None:
        for longest, settings in ((255, Settings(max_key=100)), (300, Settings(max_key=300))):
            self.use(settings)
            self.put("k" * longest, "l" * (longest + 1))
            body = self.ask("GET", "/keys").body
            assert isinstance(body, bytes)
            self.assertEqual(list(json.loads(body)), ["k" * longest])
            self.ask("DELETE", "/keys")


class FilteredDeletionTests(ProfileCase):
    profile = "keys"

    def transactions(self) -> int:
        """How many have been written."""
        return self.engine.store.figures().transactions

    def test_matching_keys_are_deleted_in_one_transaction(self) -> None:
        # Other requests are answered between two slices; nothing has been deleted by then.
        self.engine.store.limits = Limits(slice_entries=5)
        names = [f"{number:02}{letter}" for number in range(40) for letter in "ab"]
        self.put(*names)
        before = self.transactions()
        done = self.begin("DELETE", "/keys?filter=$a")
        seen = []
        while not done.called:
            self.journal_jobs.finish()
            seen.append(len(self.keys()))
            reactor.iterate(0)
        self.assertEqual(result_of(done).code, 204)
        self.assertGreater(len(seen), 10)
        self.assertEqual(set(seen) - {40}, {80})
        self.assertEqual(self.keys(), names[1::2])
        self.assertEqual(self.transactions() - before, 1)

    def test_more_than_fits_one_transaction_goes_in_several(self) -> None:
        for count, transactions in ((0, 0), (1, 1), (DELETED_AT_ONCE, 1), (DELETED_AT_ONCE + 1, 2)):
            self.put("b")
            for start in range(0, count, 100):
                self.put(*(f"a{number:05}" for number in range(start, min(start + 100, count))))
            before = self.transactions()
            self.assertEqual(self.status("DELETE", "/keys?filter=a$"), 204)
            self.assertEqual(self.transactions() - before, transactions, count)
            self.assertEqual(self.keys(), ["b"])

    def test_a_key_that_is_written_meanwhile_goes_if_it_had_been_seen(self) -> None:
        self.engine.store.limits = Limits(slice_entries=5)
        self.put(*(f"a{number:02}" for number in range(20)))
        done = self.begin("DELETE", "/keys?filter=a$")
        reactor.iterate(0)
        self.put("a00", "a000", "a99")
        while not done.called:
            self.journal_jobs.finish()
            reactor.iterate(0)
        self.assertEqual(self.keys(), ["a000"])

    def test_it_is_done_once_it_is_durable(self) -> None:
        self.put("a", "b")
        done = self.begin("DELETE", "/keys?filter=a")
        self.assertFalse(done.called)
        self.journal_jobs.finish()
        self.assertEqual(result_of(done).code, 204)

    def test_a_client_that_leaves_while_keys_are_looked_for_has_deleted_nothing(self) -> None:
        self.engine.store.limits = Limits(slice_entries=5)
        names = [f"a{number:02}" for number in range(20)]
        self.put(*names)
        done = self.begin("DELETE", "/keys?filter=a$")
        done.addErrback(lambda failure: None)
        reactor.iterate(0)
        done.cancel()
        for _ in range(10):
            reactor.iterate(0)
            self.journal_jobs.finish()
        self.assertEqual(self.keys(), names)
