"""What a caller may ask for, by cost."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial

import pytest

from api.auth.rate_limits import RateLimiter
from api.problems import TooManyRequestsError
from api.workers import Workers
from tests.api.fixtures.bucket import NOON, Bucket
from tests.api.fixtures.serving import Clock, serve
from tests.api.fixtures.sign_in import GRANTS, STORES
from tests.api.fixtures.tokens import bearer, key_set, serve_keys, token, write_grants


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


def test_work_that_waited_is_not_done_for_a_caller_in_debt():
    """Sixteen requests at once for what costs as much as all of them may cost."""
    limiter = RateLimiter(per_second=2, burst=10)
    done = []

    async def ask(workers: Workers) -> None:
        limiter.take("anna", NOON)
        await workers.run("anna", lambda: done.append(1), partial(limiter.check_debt, "anna", NOON))
        limiter.charge("anna", 20, NOON)

    async def ask_all() -> list[BaseException | None]:
        workers = Workers()
        return await asyncio.gather(*(ask(workers) for _ in range(9)), return_exceptions=True)

    refused = asyncio.run(ask_all())
    assert len(done) < 3
    assert [type(error) for error in refused[-6:]] == [TooManyRequestsError] * 6


def test_without_a_limit_nothing_is_counted():
    limiter = RateLimiter(per_second=0, burst=1)
    for _ in range(10):
        limiter.take("anna", NOON)
        limiter.charge("anna", 1000, NOON)


def test_too_many_requests_of_one_caller(tmp_path):
    bucket = Bucket.make(tmp_path)
    bucket.publish(STORES)
    write_grants(bucket.storage, *GRANTS)
    with (
        serve_keys(key_set("k1")) as key_server,
        serve(
            str(tmp_path),
            issuers=(key_server.issuer(),),
            requests_per_second=0.5,
            burst=3,
            clock=Clock(),
        ) as api,
    ):

        def status(subject: str) -> int:
            return api.get("/v1/stores/1/forecast", headers=bearer(token(subject))).status_code

        assert [status("anna") for _ in range(5)] == [200, 200, 200, 429, 429]
        answer = api.get("/v1/stores/1/forecast", headers=bearer(token("anna")))
        assert answer.headers["retry-after"] == "2"
        assert answer.json()["type"] == "/problems/too-many-requests"
        assert status("all") == 200  # the limit is that of one caller
        api.clock.now += timedelta(seconds=2)
        assert [status("anna") for _ in range(2)] == [200, 429]
