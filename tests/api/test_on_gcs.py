"""The service over a bucket in (fake) Google Cloud Storage, by its real clients."""

from __future__ import annotations

import asyncio

from ray_job.bucket.storage import open_bucket
from tests.api.bucket import STORES, Bucket, StoreSpec
from tests.api.serving import serve, wait_until
from tests.conftest import BUCKET
from tests.fake_gcs import FakeGcs, Fault

URL = f"gs://{BUCKET}/some/prefix"


def test_answers_cost_no_request_and_a_look_costs_two(gcs: FakeGcs):
    Bucket(open_bucket(URL)).publish(STORES, parts_per_run=2)
    with serve(URL, refresh_seconds=10) as served:
        gcs.log.clear()
        for _ in range(3):
            assert served.get("/v1/stores/2/forecast").status_code == 200
            assert served.get("/v1/stores?page_size=3").status_code == 200
            assert served.get("/").status_code == 200
        asked = {entry.key.rpartition("/")[2] for entry in gcs.log.entries if entry.op == "get"}
        assert asked <= {"current.json", "grants.json"}  # the background look, if it came by
        gcs.log.clear()
        served.refresh()
        # the pointer, which has not changed, and the grants, which are not there
        assert [entry.key for entry in gcs.log.entries if entry.op == "get"] == [
            "some/prefix/results/current.json",
            "some/prefix/access/grants.json",
        ]


def test_an_outage_is_told_while_the_client_still_tries(gcs: FakeGcs):
    bucket = Bucket(open_bucket(URL))
    bucket.publish([StoreSpec("1")])
    with serve(URL, refresh_seconds=10) as served:
        served.service.refresher._patience = 0.3
        gcs.faults.add(Fault("status", key="*current.json", status=503, times=None))
        bucket_is_back = asyncio.run_coroutine_threadsafe(
            served.service.refresher.look(), served.loop
        )

        def said() -> object:
            return served.get("/v1/stores/1/forecast").json()["unread_since"]

        wait_until(lambda: said() is not None)
        assert served.get("/readyz").status_code == 200
        gcs.faults.clear()
        bucket.publish([StoreSpec("1", base=700)], name="b")
        bucket_is_back.result(60)
        assert said() is None
        served.refresh()
        assert served.get("/v1/stores/1/forecast").json()["days"][0]["predicted_sales"] == 701.0


def test_a_corrupted_download_is_not_served(gcs: FakeGcs):
    bucket = Bucket(open_bucket(URL))
    bucket.publish([StoreSpec("1", base=100)], name="a")
    with serve(URL, refresh_seconds=10) as served:
        gcs.faults.add(Fault("corrupt", op="get", key="*results/parts/*", times=None))
        bucket.publish([StoreSpec("1", base=200)], name="b")
        served.refresh()
        assert served.get("/v1/stores/1/forecast").json()["release"] == "a"
        gcs.faults.clear()
        served.refresh()
        assert served.get("/v1/stores/1/forecast").json()["release"] == "b"
