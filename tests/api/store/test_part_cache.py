"""Parts on the local disk."""

from __future__ import annotations

import pyarrow as pa

from ray_job.bucket import keys, parts, releases
from tests.api.fixtures.bucket import STORES, Bucket, StoreSpec
from tests.api.fixtures.serving import serve, wait_until


def test_a_request_reads_nothing_from_the_bucket(tmp_path):
    Bucket.make(tmp_path).publish(STORES)
    with serve(str(tmp_path)) as api:
        api.stop_refreshing()
        before = api.metrics()
        for _ in range(5):
            api.get("/v1/stores/2/forecast")
            api.get("/results/3.csv")
        after = api.metrics()
        reads = [key for key in before if key[0] == "storage_reads_total"]
        assert {key: before[key] for key in reads} == {key: after[key] for key in reads}
        assert before["storage_reads_total", "part"] == 1


def test_a_restart_uses_the_cached_parts(tmp_path):
    bucket = Bucket.make(tmp_path / "bucket")
    bucket.publish(STORES, parts_per_run=2)
    cache = tmp_path / "cache"
    for expected in (2, 0):
        with serve(str(tmp_path / "bucket"), cache_dir=cache) as api:
            assert api.get("/v1/stores/2/forecast").status_code == 200
            assert api.metrics().get(("storage_reads_total", "part"), 0) == expected
    with serve(str(tmp_path / "bucket"), cache_dir=cache) as api:
        for name in ("b", "c"):
            bucket.publish([StoreSpec("1")], name=name)
            api.refresh()
        # The parts of the served release and of the one before it.
        wait_until(lambda: len(list(cache.glob("*.arrow"))) == 2)


def test_rows_of_another_store_are_not_shown(tmp_path):
    bucket = Bucket.make(tmp_path)
    entry = bucket.publish([StoreSpec("1", items=("a",)), StoreSpec("2", items=("b",))])
    release = releases.load(bucket.storage, entry.release, entry.sha256)
    rows = release.stores.to_pylist()
    rows[0]["parts"], rows[1]["parts"] = rows[1]["parts"], rows[0]["parts"]
    swapped = releases.encode(
        releases.Release(
            release.header.model_copy(update={"release": "swapped"}),
            pa.Table.from_pylist(rows, schema=releases.RELEASE_SCHEMA),
        )
    )
    bucket.storage.create(keys.release("swapped"), swapped)
    bucket.point(entry.model_copy(update={"release": "swapped", "sha256": parts.sha256(swapped)}))
    with serve(str(tmp_path)) as api:
        answer = api.get("/v1/stores/1/forecast")
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/corrupt")
