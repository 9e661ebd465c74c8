"""ETags, 304s, compression and what is remembered."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.api.bucket import STORES, Bucket, StoreSpec
from tests.api.serving import Clock, Served, serve

URL = "/v1/stores/2/forecast"


@pytest.fixture(scope="module", params=[0, 64 * 2**20], ids=["forgetful", "remembering"])
def served(request, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("bucket")
    Bucket.make(folder).publish(STORES)
    with serve(str(folder), memory_bytes=request.param) as running:
        running.client.headers["Accept-Encoding"] = "identity"
        yield running


def test_what_the_caller_has_already_is_not_sent_again(served):
    for _ in range(2):
        answer = served.get(URL)
        etag = answer.headers["etag"]
        assert etag.startswith('"')
        for value in (etag, f"W/{etag}", f'"other", {etag}', "*"):
            same = served.get(URL, headers={"If-None-Match": value})
            assert (same.status_code, same.content) == (304, b"")
            assert same.headers["etag"] == etag
            assert same.headers["cache-control"] == "private, no-cache"
            assert "vary" in same.headers
            assert "content-type" not in same.headers
        assert served.get(URL, headers={"If-None-Match": '"other"'}).status_code == 200


def test_each_representation_has_an_etag_of_its_own(served):
    etags = [
        served.get(URL).headers["etag"],
        served.get(URL, headers={"Accept": "text/csv"}).headers["etag"],
        served.get(URL, headers={"Accept-Encoding": "gzip"}).headers["etag"],
        served.get("/v1/stores/1/forecast").headers["etag"],
    ]
    assert len(set(etags)) == 4
    assert served.get("/results/2").headers["etag"] == etags[0]


def test_large_bodies_are_compressed_for_those_who_ask(served):
    plain = served.get(URL)
    assert "content-encoding" not in plain.headers
    for accepted in ("gzip", "br, gzip;q=0.5", "*"):
        with served.client.stream("GET", URL, headers={"Accept-Encoding": accepted}) as small:
            raw = b"".join(small.iter_raw())
        assert small.headers["content-encoding"] == "gzip"
        assert gzip.decompress(raw) == plain.content
        assert len(raw) < len(plain.content) / 4
    refused = served.get(URL, headers={"Accept-Encoding": "gzip;q=0"})
    assert "content-encoding" not in refused.headers


def test_problems_are_not_kept(served):
    problem = served.get("/v1/stores/99/forecast")
    assert problem.headers["cache-control"] == "no-store"
    assert "etag" not in problem.headers


def test_last_modified_is_when_the_answer_changed(tmp_path):
    Bucket.make(tmp_path).publish(
        [StoreSpec("1")], published_at=datetime(2026, 11, 23, 0, 30, tzinfo=UTC)
    )
    clock = Clock(datetime(2026, 11, 23, 0, 40, tzinfo=UTC))
    with serve(str(tmp_path), clock=clock) as served:

        def changed() -> str:
            return served.get("/v1/stores/1/forecast").headers["last-modified"]

        assert changed() == "Mon, 23 Nov 2026 00:30:00 GMT"  # published
        clock.now = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
        assert changed() == "Mon, 23 Nov 2026 05:00:00 GMT"  # the deadline, six in Berlin
        clock.now = datetime(2026, 11, 23, 23, 30, tzinfo=UTC)
        assert changed() == "Mon, 23 Nov 2026 23:00:00 GMT"  # midnight in Berlin


def test_midnight_the_deadline_and_a_swap_end_what_is_remembered(tmp_path):
    bucket = Bucket.make(tmp_path)
    bucket.publish([StoreSpec("1")])
    clock = Clock(datetime(2026, 11, 23, 22, 59, 59, tzinfo=UTC))
    with serve(str(tmp_path), clock=clock) as served:

        def first_day() -> tuple[str, bool]:
            body = served.get("/v1/stores/1/forecast").json()
            return body["days"][0]["weekday"], body["stale"]

        assert first_day() == first_day() == ("Monday", False)
        clock.now += timedelta(seconds=1)
        assert first_day() == ("Tuesday", False)
        clock.now = datetime(2026, 11, 24, 5, 0, tzinfo=UTC)
        assert first_day() == ("Tuesday", True)
        bucket.publish([StoreSpec("1", base=900)], name="b")
        served.refresh()
        body = served.get("/v1/stores/1/forecast").json()
        assert body["days"][0]["predicted_sales"] == 902.0


def test_memory_is_bounded(tmp_path):
    bucket = Bucket.make(tmp_path)
    bucket.publish([StoreSpec(str(number)) for number in range(60)])
    with serve(str(tmp_path), memory_bytes=100_000) as served:
        for number in range(60):
            assert served.get(f"/v1/stores/{number}/forecast").status_code == 200
        memory = served.front._memory
        assert 0 < memory._bytes <= 100_000
        assert memory._bytes == sum(entry.size for entry in memory._entries.values())
