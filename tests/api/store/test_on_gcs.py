"""The service over the fake of Google Cloud Storage, with the real clients."""

from __future__ import annotations

import asyncio

from ray_job.bucket.storage import open_bucket
from tests.api.fixtures.bucket import STORES, Bucket, StoreSpec
from tests.api.fixtures.serving import serve, wait_until
from tests.conftest import BUCKET
from tests.fake_gcs import FakeGcs, Fault

URL = f"gs://{BUCKET}/some/prefix"


def test_requests_read_nothing_and_a_refresh_reads_two_objects(gcs: FakeGcs):
    Bucket(open_bucket(URL)).publish(STORES, parts_per_run=2)
    with serve(URL) as api:
        api.stop_refreshing()
        gcs.log.clear()
        for _ in range(3):
            assert api.get("/v1/stores/2/forecast").status_code == 200
            assert api.get("/v1/stores?page_size=3").status_code == 200
            assert api.get("/").status_code == 200
        assert len(gcs.log) == 0
        api.refresh()
        # The pointer has not changed, and there are no grants.
        assert [(entry.op, entry.key) for entry in gcs.log.entries] == [
            ("get", "some/prefix/access/grants.json"),
            ("get", "some/prefix/results/current.json"),
        ]


def test_an_outage_is_visible_while_the_client_still_retries(gcs: FakeGcs):
    bucket = Bucket(open_bucket(URL))
    bucket.publish([StoreSpec("1")])
    with serve(URL, refresh_seconds=10) as api:
        api.service.refresher._timeout = 0.3
        gcs.faults.add(Fault("status", key="*current.json", status=503, times=None))
        refresh = asyncio.run_coroutine_threadsafe(api.service.refresher.refresh(), api.loop)

        def unread_since() -> object:
            return api.get("/v1/stores/1/forecast").json()["unread_since"]

        wait_until(lambda: unread_since() is not None)
        assert api.get("/readyz").status_code == 200
        gcs.faults.clear()
        bucket.publish([StoreSpec("1", base=700)], name="b")
        refresh.result(60)
        assert unread_since() is None
        api.refresh()
        assert api.get("/v1/stores/1/forecast").json()["days"][0]["predicted_sales"] == 701.0


def test_a_corrupted_download_is_not_served(gcs: FakeGcs):
    bucket = Bucket(open_bucket(URL))
    bucket.publish([StoreSpec("1", base=100)], name="a")
    with serve(URL, refresh_seconds=10) as api:
        gcs.faults.add(Fault("corrupt", op="get", key="*results/parts/*", times=None))
        bucket.publish([StoreSpec("1", base=200)], name="b")
        api.refresh()
        assert api.get("/v1/stores/1/forecast").json()["release"] == "a"
        gcs.faults.clear()
        api.refresh()
        assert api.get("/v1/stores/1/forecast").json()["release"] == "b"
