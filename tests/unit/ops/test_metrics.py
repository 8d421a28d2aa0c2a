"""Metrics: requests are counted under the right labels, and no client can create labels."""

from __future__ import annotations

import errno

from attrs import frozen
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from kvtwist.model import DATA, LEFT, STAGED, Exchange, Get, StoreUnavailable
from kvtwist.ops.metrics import Metrics
from kvtwist.profiles import PROFILES, Settings
from kvtwist.web.routing import Route
from tests.support.engine import Engine, EngineCase, FaultyDisk, SteppedWorker, put

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@frozen
class Request:
    """One that is over."""

    method: bytes
    status: int

    def exchange(self, route: object, seconds: float) -> Exchange:
        raise AssertionError("metrics do not ask for it")


class MetricsTests(EngineCase):
    disk: FaultyDisk

    def make_engine(self) -> Engine:
        self.disk = FaultyDisk()
        return Engine(self.path / "store", disk=self.disk)

    def setUp(self) -> None:
        super().setUp()
        self.metrics = Metrics(self.engine.store)

    def count(self, method: str = "GET", rule: str = "/kv/<key>", status: int = 200, seconds: float = 0.003) -> None:
        profile = PROFILES["lsfr"](self.engine.store, Settings())
        self.metrics(Request(method.encode(), status), Route(profile, rule), seconds)

    def samples(self) -> Samples:
        families = text_string_to_metric_families(self.metrics.scrape().decode())
        return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}

    def value(self, name: str, **labels: str) -> float:
        return self.samples()[name, tuple(sorted(labels.items()))]

    def requests(self, **labels: str) -> float:
        return self.value(
            "kvtwist_http_requests_total",
            **{"profile": "lsfr", "route": "/kv/<key>", "method": "GET", "status": "200", **labels},
        )

    def test_requests_are_counted_by_route_method_and_status(self) -> None:
        for _ in range(3):
            self.count()
        self.count(method="PUT")
        self.count(status=404)
        self.assertEqual(self.requests(), 3)
        self.assertEqual(self.requests(method="PUT"), 1)
        self.assertEqual(self.requests(status="404"), 1)

    def test_a_client_that_left_is_499(self) -> None:
        self.count(status=LEFT)
        self.assertEqual(self.requests(status="499"), 1)

    def test_clients_make_no_labels(self) -> None:
        for method in ("BREW", "get", "X" * 1000, "G\nT"):
            self.count(method=method, rule="")
        self.assertEqual(self.requests(method="other", route="none"), 4)
        self.assertNotIn("secret", self.metrics.scrape().decode())

    def test_latency_is_a_histogram(self) -> None:
        labels = {"profile": "lsfr", "route": "/kv/<key>", "method": "GET"}
        for seconds in (0.0001, 0.003, 0.003, 9.0):
            self.count(seconds=seconds)
        buckets = {
            dict(key)["le"]: value
            for (name, key), value in self.samples().items()
            if name == "kvtwist_http_request_seconds_bucket"
        }
        self.assertEqual(
            (buckets["0.0005"], buckets["0.002"], buckets["0.005"], buckets["5.0"], buckets["+Inf"]), (1, 1, 3, 3, 4)
        )
        self.assertAlmostEqual(self.value("kvtwist_http_request_seconds_sum", **labels), 9.0061)

    def test_the_bounds_of_the_histogram_include_their_values(self) -> None:
        bounds = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]
        for seconds in bounds:
            self.count(seconds=seconds)
        found = {
            float(dict(key)["le"]): value
            for (name, key), value in self.samples().items()
            if name == "kvtwist_http_request_seconds_bucket"
        }
        # Prometheus: how many took no longer than the bound.
        self.assertEqual(
            found,
            {bound: number for number, bound in enumerate([*bounds, float("inf")], 1)} | {float("inf"): len(bounds)},
        )

    def test_watched_values_are_read_in_each_scrape(self) -> None:
        known = 0
        self.metrics.watch(GaugeMetricFamily, "kvtwist_a", "help", lambda: known)
        self.metrics.watch(CounterMetricFamily, "kvtwist_b", "help", lambda: known)
        for known in (0, 7):
            self.assertEqual(self.value("kvtwist_a"), known)
            self.assertEqual(self.value("kvtwist_b_total"), known)

    def test_the_store_is_read_in_each_scrape(self) -> None:
        self.engine.put(b"ab", b"123")
        self.engine.put(b"k", b"", keyspace=STAGED)
        self.assertEqual(self.value("kvtwist_store_records", keyspace=DATA), 1)
        self.assertEqual(self.value("kvtwist_store_bytes", keyspace=DATA), 5)
        self.assertEqual(self.value("kvtwist_staged_changes"), 1)
        self.assertEqual(self.value("kvtwist_staged_bytes"), 1)
        self.assertEqual(self.value("kvtwist_journal_transactions_total"), 2)
        self.assertEqual(self.value("kvtwist_journal_batches_total"), 2)
        self.assertGreater(self.value("kvtwist_journal_bytes"), 0)
        self.assertEqual(self.value("kvtwist_checkpoints_total"), 0)
        self.assertEqual(self.value("kvtwist_checkpoint_seconds_total"), 0)
        self.engine.checkpoint()
        self.assertEqual(self.value("kvtwist_checkpoints_total"), 1)
        self.assertEqual(self.value("kvtwist_checkpoint_last_timestamp_seconds"), self.engine.wall)

    def test_how_long_checkpoints_take(self) -> None:
        worker = SteppedWorker()
        self.engine.storage.page_worker = worker
        for number in range(2):
            self.engine.put(b"%d" % number, b"v")
            checkpoint = self.engine.store.housekeeping.checkpoint()
            self.engine.clock.advance(0.25)
            worker.finish()
            self.successResultOf(checkpoint)
        self.assertEqual(self.value("kvtwist_checkpoint_seconds_total"), 0.5)

    def test_failures_are_counted(self) -> None:
        self.assertEqual(self.value("kvtwist_store_read_only"), 0)
        self.disk.fail("sync", errno.EIO)
        self.failureResultOf(self.engine.store.transact([], [put(b"k", b"v")]), StoreUnavailable)
        self.assertEqual(self.value("kvtwist_store_read_only"), 1)
        self.assertEqual(self.value("kvtwist_journal_failures_total"), 1)

    def test_every_metric_has_a_help_text_and_the_process_has_its_own(self) -> None:
        self.engine.do(Get(DATA, b"k"))
        self.count()
        self.engine.checkpoint()
        families = {family.name: family for family in text_string_to_metric_families(self.metrics.scrape().decode())}
        self.assertIn("process_resident_memory_bytes", families)
        for name, family in families.items():
            self.assertTrue(family.documentation, name)
