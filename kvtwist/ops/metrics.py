"""
Metrics for Prometheus. Requests are counted as they happen; all else is asked of the store when somebody scrapes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kvtwist.interfaces import IStore
from kvtwist.model import STAGED, Exchange, Figures, Usage

BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """All metrics of one server. Called with each exchange."""

    def __init__(self, store: IStore) -> None:
        self._registry = registry = CollectorRegistry()
        self.in_flight: Callable[[], int] = int
        """Set by whoever knows."""
        self.in_flight_bytes: Callable[[], int] = int
        """Set by whoever knows."""
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self._requests = Counter(
            "kvtwist_http_requests",
            "Requests answered; status 499: the client left before it was.",
            ["profile", "route", "method", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "kvtwist_http_request_seconds",
            "From the end of a request to the end of its response.",
            ["profile", "route", "method"],
            buckets=BUCKETS,
            registry=registry,
        )
        registry.register(_StoreCollector(store, lambda: self.in_flight(), lambda: self.in_flight_bytes()))

    def __call__(self, exchange: Exchange) -> None:
        """Count an exchange."""
        method = exchange.method.decode("latin-1") if exchange.method in _METHODS else "other"
        labels = (exchange.profile, exchange.route or "none", method)
        self._requests.labels(*labels, str(exchange.status or 499)).inc()
        self._seconds.labels(*labels).observe(exchange.seconds)

    def scrape(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self._registry)


_METHODS = frozenset({b"GET", b"HEAD", b"PUT", b"POST", b"DELETE", b"OPTIONS", b"PATCH"})


class _StoreCollector(Collector):
    def __init__(self, store: IStore, in_flight: Callable[[], int], in_flight_bytes: Callable[[], int]) -> None:
        self._store = store
        self._in_flight = in_flight
        self._in_flight_bytes = in_flight_bytes

    def describe(self) -> list[Metric]:
        """None in advance: the store need not be open yet."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Ask the store."""
        figures = self._store.figures()
        yield GaugeMetricFamily("kvtwist_http_requests_in_flight", "Requests being answered.", self._in_flight())
        yield GaugeMetricFamily("kvtwist_http_in_flight_bytes", "What they take.", self._in_flight_bytes())
        yield from _usage(figures)
        for name, help_text, value in _gauges(figures):
            yield GaugeMetricFamily(name, help_text, value)
        for name, help_text, value in _counters(figures):
            yield CounterMetricFamily(name, help_text, value)


def _usage(figures: Figures) -> Iterator[Metric]:
    records = GaugeMetricFamily("kvtwist_store_records", "Records, by keyspace.", labels=["keyspace"])
    size = GaugeMetricFamily("kvtwist_store_bytes", "Bytes of keys and values, by keyspace.", labels=["keyspace"])
    for keyspace, usage in figures.keyspaces.items():
        records.add_metric([keyspace], usage.records)
        size.add_metric([keyspace], usage.size)
    yield records
    yield size


def _gauges(figures: Figures) -> Iterator[tuple[str, str, float]]:
    staged = figures.keyspaces.get(STAGED, Usage(0, 0))
    yield "kvtwist_staged_changes", "Changes that wait for a commit.", staged.records
    yield "kvtwist_staged_bytes", "Bytes of keys and values that wait for a commit.", staged.size
    yield "kvtwist_journal_bytes", "Journal since the last checkpoint began.", figures.journal_bytes
    yield "kvtwist_store_read_only", "1 when the store writes no more until a restart.", figures.read_only
    if figures.checkpointed_ms is not None:
        seconds = figures.checkpointed_ms / 1000
        yield "kvtwist_checkpoint_last_timestamp_seconds", "When the last checkpoint ended.", seconds


def _counters(figures: Figures) -> Iterator[tuple[str, str, float]]:
    yield "kvtwist_journal_batches", "Batches written to the journal.", figures.batches
    yield "kvtwist_journal_transactions", "Transactions written to the journal.", figures.transactions
    yield "kvtwist_journal_sync_seconds", "Time from handing a batch over until it was durable.", figures.sync_seconds
    yield "kvtwist_journal_failures", "Batches that could not be written.", figures.failed_batches
    yield "kvtwist_checkpoints", "Checkpoints finished.", figures.checkpoints
    yield "kvtwist_checkpoint_failures", "Checkpoints that failed.", figures.failed_checkpoints
    yield "kvtwist_checkpoint_seconds", "Time spent on checkpoints.", figures.checkpoint_seconds
