"""ETags, 304s, compression and cached replies."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from api.transport.reply_cache import matches
from tests.api.fixtures.bucket import STORES, Bucket, StoreSpec
from tests.api.fixtures.serving import Clock, RunningApi, serve

URL = "/v1/stores/2/forecast"


@pytest.fixture(scope="module", params=[0, 64 * 2**20], ids=["without cache", "with cache"])
def cached_api(request, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    folder = tmp_path_factory.mktemp("bucket")
    Bucket.make(folder).publish(STORES)
    with serve(str(folder), memory_bytes=request.param) as api:
        api.client.headers["Accept-Encoding"] = "identity"
        yield api


def test_bytes_that_the_caller_has_are_not_sent_again(cached_api):
    for _ in range(2):
        answer = cached_api.get(URL)
        etag = answer.headers["etag"]
        assert etag.startswith('"')
        for value in (etag, f"W/{etag}", f'"other", {etag}', "*"):
            unchanged = cached_api.get(URL, headers={"If-None-Match": value})
            assert (unchanged.status_code, unchanged.content) == (304, b"")
            assert unchanged.headers["etag"] == etag
            assert unchanged.headers["cache-control"] == "private, no-cache"
            assert "vary" in unchanged.headers
            assert "content-type" not in unchanged.headers
        assert cached_api.get(URL, headers={"If-None-Match": '"other"'}).status_code == 200


def test_each_representation_has_an_etag_of_its_own(cached_api):
    etags = [
        cached_api.get(URL).headers["etag"],
        cached_api.get(URL, headers={"Accept": "text/csv"}).headers["etag"],
        cached_api.get(URL, headers={"Accept-Encoding": "gzip"}).headers["etag"],
        cached_api.get("/v1/stores/1/forecast").headers["etag"],
    ]
    assert len(set(etags)) == 4
    assert cached_api.get("/results/2").headers["etag"] == etags[0]


def test_large_bodies_are_compressed_if_the_caller_accepts_it(cached_api):
    plain = cached_api.get(URL)
    assert "content-encoding" not in plain.headers
    for accepted in ("gzip", "br, gzip;q=0.5", "*"):
        with cached_api.client.stream(
            "GET", URL, headers={"Accept-Encoding": accepted}
        ) as compressed:
            raw = b"".join(compressed.iter_raw())
        assert compressed.headers["content-encoding"] == "gzip"
        assert gzip.decompress(raw) == plain.content
        assert len(raw) < len(plain.content) / 4
    refused = cached_api.get(URL, headers={"Accept-Encoding": "gzip;q=0"})
    assert "content-encoding" not in refused.headers


def test_problems_are_not_cached(cached_api):
    problem = cached_api.get("/v1/stores/99/forecast")
    assert problem.headers["cache-control"] == "no-store"
    assert "etag" not in problem.headers


def test_last_modified_is_when_the_answer_changed(tmp_path):
    Bucket.make(tmp_path).publish(
        [StoreSpec("1")], published_at=datetime(2026, 11, 23, 0, 30, tzinfo=UTC)
    )
    clock = Clock(datetime(2026, 11, 23, 0, 40, tzinfo=UTC))
    with serve(str(tmp_path), clock=clock) as api:

        def last_modified() -> str:
            return api.get("/v1/stores/1/forecast").headers["last-modified"]

        assert last_modified() == "Mon, 23 Nov 2026 00:30:00 GMT"  # published
        clock.now = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
        assert last_modified() == "Mon, 23 Nov 2026 05:00:00 GMT"  # the deadline, six in Berlin
        clock.now = datetime(2026, 11, 23, 23, 30, tzinfo=UTC)
        assert last_modified() == "Mon, 23 Nov 2026 23:00:00 GMT"  # midnight in Berlin


def test_midnight_the_deadline_and_a_swap_end_cached_replies(tmp_path):
    bucket = Bucket.make(tmp_path)
    bucket.publish([StoreSpec("1")])
    clock = Clock(datetime(2026, 11, 23, 22, 59, 59, tzinfo=UTC))
    with serve(str(tmp_path), clock=clock) as api:

        def first_day() -> tuple[str, bool]:
            body = api.get("/v1/stores/1/forecast").json()
            return body["days"][0]["weekday"], body["stale"]

        assert first_day() == first_day() == ("Monday", False)
        clock.now += timedelta(seconds=1)
        assert first_day() == ("Tuesday", False)
        clock.now = datetime(2026, 11, 24, 5, 0, tzinfo=UTC)
        assert first_day() == ("Tuesday", True)
        bucket.publish([StoreSpec("1", base=900)], name="b")
        api.refresh()
        body = api.get("/v1/stores/1/forecast").json()
        assert body["days"][0]["predicted_sales"] == 902.0


def test_the_cache_is_bounded(tmp_path):
    bucket = Bucket.make(tmp_path)
    bucket.publish([StoreSpec(str(number)) for number in range(60)])
    with serve(str(tmp_path), memory_bytes=100_000) as api:
        for number in range(60):
            assert api.get(f"/v1/stores/{number}/forecast").status_code == 200
        assert 0 < api.app.replies.size <= 100_000
        assert 0 < len(api.app.replies) < 60


@pytest.mark.parametrize(
    ("header", "is_same"),
    [(b'"a"', True), (b'W/"a"', True), (b'"b", "a"', True), (b"*", True), (b'"b"', False),
     (b"", False), (b"a", False)],
)  # fmt: skip
def test_if_none_match(header, is_same):
    assert matches(header, b'"a"') is is_same
