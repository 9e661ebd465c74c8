"""What a caller may ask for, by cost."""

from __future__ import annotations

from datetime import timedelta

import pytest

from api.auth.rate_limits import RateLimiter
from api.problems import TooManyRequestsError
from tests.api.fixtures.bucket import NOON


def test_a_dear_answer_is_paid_for_by_the_next_requests():
    limiter = RateLimiter(per_second=2, burst=10)
    limiter.take("anna", NOON)
    limiter.charge("anna", 20, NOON)
    with pytest.raises(TooManyRequestsError) as refused:
        limiter.take("anna", NOON)
    assert refused.value.headers["Retry-After"] == "6"  # 11 in debt, and 1 for the request
    limiter.take("ben", NOON)
    with pytest.raises(TooManyRequestsError):
        limiter.take("anna", NOON + timedelta(seconds=5))
    limiter.take("anna", NOON + timedelta(seconds=6))


def test_without_a_limit_nothing_is_counted():
    limiter = RateLimiter(per_second=0, burst=1)
    for _ in range(10):
        limiter.take("anna", NOON)
        limiter.charge("anna", 1000, NOON)
