"""Counters of what the service does, for Prometheus."""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

MEDIA_TYPE = CONTENT_TYPE_LATEST
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The metrics of one service, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._next_text: asyncio.Future[bytes] | None = None
        self._making = asyncio.Lock()
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
            "Reads of the bucket that failed, by kind of failure.",
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

    async def text(self) -> bytes:
        """The metrics as they are now, made in a thread. Callers that wait share one text.

        It takes milliseconds, for a new release of very many stores half a second, and anybody may
        ask for it.
        """
        if self._next_text is None:
            self._next_text = asyncio.ensure_future(self._make_text())
        return await asyncio.shield(self._next_text)

    async def _make_text(self) -> bytes:
        async with self._making:
            self._next_text = None
            return await asyncio.to_thread(generate_latest, self.registry)
