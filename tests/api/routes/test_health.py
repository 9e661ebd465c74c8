"""The probes."""

from __future__ import annotations

from tests.api.fixtures.bucket import Bucket, StoreSpec
from tests.api.fixtures.serving import serve, wait_until


def test_not_ready_before_the_first_release(tmp_path):
    with serve(str(tmp_path)) as api:
        assert api.get("/livez").status_code == 200
        assert api.get("/startupz").status_code == 200
        assert api.get("/readyz").status_code == 503
        answer = api.get("/v1/stores/1/forecast")
        assert answer.status_code == 503
        assert answer.json()["type"] == "/problems/no-release"
        assert answer.headers["retry-after"] == "5"
        Bucket.make(tmp_path).publish([StoreSpec("1")])
        api.refresh()
        assert api.get("/readyz").json()["as_of"] == "2026-11-22"
        assert api.get("/v1/stores/1/forecast").status_code == 200


def test_not_alive_without_the_task_that_reads_the_bucket(tmp_path):
    with serve(str(tmp_path)) as api:
        assert api.get("/livez").status_code == 200
        api.loop.call_soon_threadsafe(api.service.refresh_task.cancel)
        wait_until(lambda: api.get("/livez").status_code == 503)
