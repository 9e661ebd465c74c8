"""Limits: how often an identity may ask. A token bucket each, in memory."""

from __future__ import annotations

import math
from collections import OrderedDict
from datetime import datetime

from api.problems import TooManyRequestsError

_IDENTITIES = 50_000


class Limits:
    """`per_second` requests each on the long run, `burst` at once; 0 per second: no limit."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second = per_second
        self._burst = float(burst)
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, who: str, now: datetime) -> None:
        """Raises TooManyRequestsError, which says when to come again."""
        if not self._per_second:
            return
        moment = now.timestamp()
        left, since = self._left.pop(who, (self._burst, moment))
        left = min(self._burst, left + max(moment - since, 0.0) * self._per_second)
        if left < 1.0:
            self._left[who] = (left, moment)
            wait = math.ceil((1.0 - left) / self._per_second)
            raise TooManyRequestsError(
                f"no more than {self._per_second:g} requests a second are answered",
                headers={"Retry-After": str(max(wait, 1))},
            )
        self._left[who] = (left - 1.0, moment)
        if len(self._left) > _IDENTITIES:
            self._left.popitem(last=False)
