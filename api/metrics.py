"""Metrics for Prometheus, in a registry of the application's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from api.served import Served
from api.snapshot import Snapshot
from ray_job.bucket.sanity import Night

MEDIA_TYPE = CONTENT_TYPE_LATEST
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "storecast_api_requests",
            "Requests by route template, method and status.",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "storecast_api_request_seconds",
            "Time to the last byte handed over, by route template.",
            ("route",),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.storage_reads = Counter(
            "storecast_api_storage_reads",
            "Requests to the bucket, by what was read.",
            ("what",),
            registry=self.registry,
        )
        self.refresh_failures = Counter(
            "storecast_api_refresh_failures",
            "Looks at the bucket that failed, by kind of failure.",
            ("kind",),
            registry=self.registry,
        )
        self.swaps = Counter("storecast_api_swaps", "Releases swapped in.", registry=self.registry)
        self.load_seconds = Gauge(
            "storecast_api_load_seconds",
            "How long the release that is served took to load and verify.",
            registry=self.registry,
        )
        self.key_fetches = Counter(
            "storecast_api_key_fetches", "Fetches of issuers' keys.", registry=self.registry
        )

    def text(self) -> bytes:
        return generate_latest(self.registry)


class Freshness(Collector):
    """What is served, computed when Prometheus asks: staleness needs no new run to appear."""

    def __init__(self, served: Callable[[], Served], clock: Callable[[], datetime]) -> None:
        self._served = served
        self._clock = clock
        self._told: tuple[tuple[str, int], Night] | None = None

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        served, now = self._served(), self._clock()
        yield _gauge(
            "unread_seconds",
            "Seconds for which the bucket could not be read; 0 while it can.",
            (now - served.unread_since).total_seconds() if served.unread_since else 0.0,
        )
        yield _gauge(
            "release_refused",
            "1 while the pointer names a release that cannot be verified.",
            float(served.refused is not None),
        )
        yield _gauge("ready", "1 as soon as a snapshot is served.", float(bool(served.snapshot)))
        if served.snapshot is None:
            return
        snapshot, schedule = served.snapshot, served.schedule
        as_of = snapshot.entry.as_of
        yield _gauge(
            "served_as_of_timestamp_seconds",
            "Midnight UTC of the as-of that is served.",
            datetime.combine(as_of, time(), UTC).timestamp(),
        )
        yield _gauge(
            "published_timestamp_seconds",
            "When the release that is served was published.",
            snapshot.entry.published_at.timestamp(),
        )
        yield _gauge(
            "seconds_past_deadline",
            "Seconds since a newer forecast was due; negative while there is time left.",
            schedule.seconds_past_deadline(as_of, now),
        )
        by_outcome = GaugeMetricFamily(
            "storecast_api_stores", "Stores of the release by outcome.", labels=("outcome",)
        )
        for outcome, count in sorted(snapshot.count_outcomes().items()):
            by_outcome.add_metric((outcome,), count)
        yield by_outcome
        yield _gauge(
            "stale_stores",
            "Stores whose forecast is older than the one that should be live.",
            snapshot.count_older_than(schedule.expected_as_of(now)),
        )
        yield _gauge(
            "late_stores", "Stores whose data end before the as-of.", snapshot.count_late()
        )
        yield from _sanity(self._night(snapshot, served.pointer.silent_days))

    def _night(self, snapshot: Snapshot, silent_days: int) -> Night:
        """A release's figures never change: they are made once for each."""
        asked = (snapshot.name, silent_days)
        if self._told is None or self._told[0] != asked:
            self._told = (asked, snapshot.night(silent_days))
        return self._told[1]


def _sanity(night: Night) -> Iterator[Metric]:
    yield _gauge(
        "silent_stores",
        "Stores that have sent no sales for days, and are not closed.",
        len(night.silent),
    )
    yield _gauge(
        "carried_stores", "Stores whose forecast is older than the release.", night.carried
    )
    yield _gauge(
        "missing_weather_stores",
        "Stores that lack the weather of a target date.",
        night.missing_weather,
    )
    level = GaugeMetricFamily(
        "storecast_api_forecast_to_usual",
        "Forecasts over the same weekdays' recent mean sales; region empty: of all stores.",
        labels=("region",),
    )
    for each in (night.total, *night.regions):
        if each.ratio is not None:
            level.add_metric((each.region or "",), each.ratio)
    yield level


def _gauge(name: str, help_text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"storecast_api_{name}", help_text, value=value)
