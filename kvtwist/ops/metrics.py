"""
Metrics for Prometheus. Requests are counted as they end; other figures are read when Prometheus scrapes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Protocol

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from kvtwist.interfaces import IProfile, IStore
from kvtwist.methods import METHODS
from kvtwist.model import STAGED, Figures, Usage

BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
Family = GaugeMetricFamily | CounterMetricFamily


class Counted(Protocol):
    """A request that was answered or refused."""

    method: bytes

    @property
    def status(self) -> int: ...


class Routed(Protocol):
    """Its route."""

    @property
    def profile(self) -> IProfile: ...

    @property
    def rule(self) -> str: ...


class _Series:
    """Requests with the same labels: the count in each bucket of time, and the sum of times."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.seconds = 0.0


class Metrics:
    """
    All metrics of one server.

    A request costs two additions; the text for Prometheus is made in a scrape.
    """

    def __init__(self, store: IStore) -> None:
        self._registry = registry = CollectorRegistry()
        self._series: dict[tuple[str, str, bytes, int], _Series] = {}
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        registry.register(_RequestCollector(self._series))
        registry.register(_StoreCollector(store))

    def watch(self, family: type[Family], name: str, help_text: str, read: Callable[[], int]) -> None:
        """Add a metric whose value is read in each scrape."""
        self._registry.register(_Reading(family, name, help_text, read))

    def __call__(self, request: Counted, route: Routed, seconds: float) -> None:
        """Count a request."""
        method = request.method if request.method in METHODS else b"other"
        kind = (route.profile.name, route.rule, method, request.status)
        series = self._series.get(kind)
        if series is None:
            series = self._series[kind] = _Series()
        series.counts[bisect_left(BUCKETS, seconds)] += 1
        series.seconds += seconds

    def scrape(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def samples(self) -> Iterator[tuple[str, dict[str, str], float]]:
        """All metrics as (name, labels, value)."""
        for metric in self._registry.collect():
            for sample in metric.samples:
                yield sample.name, sample.labels, sample.value


class _RequestCollector(Collector):
    def __init__(self, series: dict[tuple[str, str, bytes, int], _Series]) -> None:
        self._series = series

    def collect(self) -> Iterator[Metric]:
        """Sum up the counts."""
        requests = CounterMetricFamily(
            "kvtwist_http_requests",
            "Requests answered; 499: the client left before it had the response.",
            labels=["profile", "route", "method", "status"],
        )
        times: dict[tuple[str, str, str], _Series] = {}
        for (profile, rule, method, status), series in self._series.items():
            labels = (profile, rule or "none", method.decode())
            requests.add_metric([*labels, str(status)], sum(series.counts))
            total = times.setdefault(labels, _Series())
            total.counts = [sum(pair) for pair in zip(total.counts, series.counts, strict=True)]
            total.seconds += series.seconds
        yield requests
        histogram = HistogramMetricFamily(
            "kvtwist_http_request_seconds",
            "From the end of a request to the end of its response.",
            labels=["profile", "route", "method"],
        )
        for labels, total in times.items():
            bounds = [*map(str, BUCKETS), "+Inf"]
            histogram.add_metric([*labels], list(zip(bounds, accumulate(total.counts), strict=True)), total.seconds)
        yield histogram


class _StoreCollector(Collector):
    def __init__(self, store: IStore) -> None:
        self._store = store

    def describe(self) -> list[Metric]:
        """Describe nothing in advance: the store need not be open yet."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Read the store's figures."""
        figures = self._store.figures()
        yield from _usage(figures)
        for name, help_text, value in _gauges(figures):
            yield GaugeMetricFamily(name, help_text, value)
        for name, help_text, value in _counters(figures):
            yield CounterMetricFamily(name, help_text, value)


class _Reading(Collector):
    def __init__(self, family: type[Family], name: str, help_text: str, read: Callable[[], int]) -> None:
        self._family = family
        self._name = name
        self._help_text = help_text
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """Read the value."""
        yield self._family(self._name, self._help_text, self._read())


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
    yield "kvtwist_staged_changes", "Staged changes, which wait for a commit.", staged.records
    yield "kvtwist_staged_bytes", "Bytes of keys and values of staged changes.", staged.size
    yield "kvtwist_journal_bytes", "Journal since the last checkpoint began.", figures.journal_bytes
    yield "kvtwist_store_read_only", "1 if the store is read-only until a restart.", figures.read_only
    if figures.checkpointed_ms is not None:
        seconds = figures.checkpointed_ms / 1000
        yield "kvtwist_checkpoint_last_timestamp_seconds", "When the last checkpoint ended.", seconds


def _counters(figures: Figures) -> Iterator[tuple[str, str, float]]:
    yield "kvtwist_journal_batches", "Batches written to the journal.", figures.batches
    yield "kvtwist_journal_transactions", "Transactions written to the journal.", figures.transactions
    yield "kvtwist_journal_sync_seconds", "Time that batches took until they were durable.", figures.sync_seconds
    yield "kvtwist_journal_failures", "Batches that could not be written.", figures.failed_batches
    yield "kvtwist_checkpoints", "Checkpoints finished.", figures.checkpoints
    yield "kvtwist_checkpoint_failures", "Checkpoints that failed.", figures.failed_checkpoints
    yield "kvtwist_checkpoint_seconds", "Time spent on checkpoints.", figures.checkpoint_seconds
