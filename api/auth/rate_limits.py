"""How much a caller may ask for: one token bucket for each caller, in memory.

Each request costs one, and a large answer more. What it costs is known only when it is there, so
that a caller may get into debt, and then has to wait until it is paid.
"""

from __future__ import annotations

import math
from datetime import datetime

from cachetools import LRUCache

from api.problems import TooManyRequestsError

_MAX_CALLERS = 50_000
COST_BYTES = 32_768
"""An answer costs its caller one request more for each of so many bytes."""
IS_COUNTED = "storecast.is_counted"
"""The key of the scope of a request that its caller has paid for already."""


class RateLimiter:
    """A caller may ask for a cost of `burst` at once and of `per_second` in the long run.

    0 per second: no limit. The buckets of the least recently seen callers are forgotten.
    """

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second = per_second
        self._burst = float(burst)
        # Caller to (requests left, time in seconds at which that was so).
        self._buckets: LRUCache[str, tuple[float, float]] = LRUCache(_MAX_CALLERS)

    def take(self, caller: str, now: datetime) -> None:
        """Count one request. Raises TooManyRequestsError with the seconds to wait."""
        if not self._per_second:
            return
        seconds = now.timestamp()
        left, counted_at = self._buckets.get(caller, (self._burst, seconds))
        left = min(self._burst, left + max(seconds - counted_at, 0.0) * self._per_second)
        if left < 1.0:
            self._buckets[caller] = (left, seconds)
            raise self._refusal(left)
        self._buckets[caller] = (left - 1.0, seconds)

    def check_debt(self, caller: str, now: datetime) -> None:
        """Raise TooManyRequestsError for a caller whose earlier answers are not paid for yet."""
        if not self._per_second:
            return
        seconds = now.timestamp()
        left, counted_at = self._buckets.get(caller, (self._burst, seconds))
        left += max(seconds - counted_at, 0.0) * self._per_second
        if left < 0.0:
            raise self._refusal(left)

    def charge(self, caller: str, cost: float, now: datetime) -> None:
        """Count what a request has cost more than one. The caller's next requests pay for it."""
        if not self._per_second or not cost:
            return
        left, counted_at = self._buckets.get(caller, (self._burst, now.timestamp()))
        self._buckets[caller] = (left - cost, counted_at)

    def _refusal(self, left: float) -> TooManyRequestsError:
        wait = math.ceil((1.0 - left) / self._per_second)
        return TooManyRequestsError(
            f"no more than {self._per_second:g} requests a second are answered",
            headers={"Retry-After": str(max(wait, 1))},
        )
