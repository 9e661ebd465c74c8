"""Figures of the release that is served, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, time

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from api.store.snapshot import Snapshot
from api.store.state import ServedState
from ray_job.bucket.sanity import Night


class ReleaseCollector(Collector):
    """Figures that are computed when Prometheus reads them.

    So a release becomes stale at its deadline without any new run.
    """

    def __init__(
        self,
        state: Callable[[], ServedState],
        grants_verified_at: Callable[[], datetime | None],
        clock: Callable[[], datetime],
    ) -> None:
        self._state = state
        self._grants_verified_at = grants_verified_at
        self._clock = clock
        self._cached_night: tuple[tuple[str, int], Night] | None = None

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        state, now = self._state(), self._clock()
        yield _gauge(
            "unread_seconds",
            "Seconds for which the bucket could not be read; 0 while it can.",
            (now - state.unread_since).total_seconds() if state.unread_since else 0.0,
        )
        yield _gauge(
            "release_refused",
            "1 while the pointer names a release that cannot be verified.",
            float(state.refused is not None),
        )
        yield _gauge(
            "grants_refused",
            "1 while the grants of the bucket are damaged or cannot be read.",
            float(state.grants_refused is not None),
        )
        verified_at = self._grants_verified_at()
        if verified_at is not None:
            yield _gauge(
                "grants_verified_timestamp_seconds",
                "When the grants in force were last seen in the bucket.",
                verified_at.timestamp(),
            )
        yield _gauge("ready", "1 as soon as a snapshot is served.", float(bool(state.snapshot)))
        if state.snapshot is None:
            return
        snapshot, schedule = state.snapshot, state.schedule
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
        yield from _night_metrics(self._night(snapshot, state.pointer.silent_days))

    def _night(self, snapshot: Snapshot, silent_days: int) -> Night:
        """The figures of a release never change, so they are computed once for each release."""
        key = (snapshot.name, silent_days)
        if self._cached_night is None or self._cached_night[0] != key:
            self._cached_night = (key, snapshot.night_summary(silent_days))
        return self._cached_night[1]


def _night_metrics(night: Night) -> Iterator[Metric]:
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
    ratios = GaugeMetricFamily(
        "storecast_api_forecast_to_usual",
        "Forecasts over the same weekdays' recent mean sales; region empty: of all stores.",
        labels=("region",),
    )
    for level in (night.total, *night.regions):
        if level.ratio is not None:
            ratios.add_metric((level.region or "",), level.ratio)
    yield ratios


def _gauge(name: str, help_text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"storecast_api_{name}", help_text, value=value)
