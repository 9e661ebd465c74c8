"""New releases, unreadable buckets and releases that cannot be verified."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import timedelta

import pytest

from ray_job.bucket import keys
from tests.api.fixtures.bucket import AS_OF, Bucket, StoreSpec
from tests.api.fixtures.serving import serve


def test_a_new_release_is_served_and_a_corrupt_one_is_refused(tmp_path):
    bucket = Bucket.make(tmp_path)
    bucket.publish([StoreSpec("1", base=100)])
    with serve(str(tmp_path)) as api:
        bucket.publish([StoreSpec("1", base=200)], name="second")
        api.refresh()
        body = api.get("/v1/stores/1/forecast").json()
        assert (body["release"], body["days"][0]["predicted_sales"]) == ("second", 201.0)
        entry = bucket.publish([StoreSpec("1", base=300)], name="third", point=False)
        path = tmp_path / keys.release("third")
        path.write_bytes(path.read_bytes()[:-1] + b"\0")
        bucket.point(entry)
        api.refresh()
        body = api.get("/v1/stores/1/forecast").json()
        assert body["release"] == "second"
        assert api.get("/readyz").json()["release_refused"] is True
        assert api.metrics()["release_refused",] == 1


def test_a_release_with_a_corrupt_part_is_refused(tmp_path):
    bucket = Bucket.make(tmp_path)
    earlier = AS_OF - timedelta(days=1)
    bucket.publish([StoreSpec("1", base=100, as_of=earlier)], as_of=earlier)
    bucket.publish([StoreSpec("1", base=200)])
    path = tmp_path / keys.part(AS_OF, "2026-11-22-a0", 0)
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    with serve(str(tmp_path)) as api:  # it starts with the newest release that can be verified
        body = api.get("/v1/stores/1/forecast").json()
        assert (body["as_of"], body["stale"]) == ("2026-11-21", True)
        data[40] ^= 1
        path.write_bytes(data)
        api.refresh()
        assert api.get("/v1/stores/1/forecast").json()["as_of"] == "2026-11-22"


def test_an_unreadable_bucket_leaves_the_last_snapshot(tmp_path):
    folder = tmp_path / "bucket"
    Bucket.make(folder).publish([StoreSpec("1")])
    with serve(str(folder)) as api:
        folder.rename(tmp_path / "moved")
        api.refresh()
        body = api.get("/v1/stores/1/forecast").json()
        assert body["unread_since"] == "2026-11-23T11:00:00Z"
        assert api.get("/readyz").status_code == 200
        (tmp_path / "moved").rename(folder)
        api.refresh()
        assert api.get("/v1/stores/1/forecast").json()["unread_since"] is None


def test_an_invalid_pointer_is_refused(tmp_path):
    bucket = Bucket.make(tmp_path)
    bucket.publish([StoreSpec("1")])
    with serve(str(tmp_path)) as api:
        bucket.change(time_zone="Mars/Olympus")
        api.refresh()
        assert api.get("/readyz").json()["release_refused"] is True
        assert api.get("/v1/stores/1/forecast").status_code == 200
        bucket.storage.replace(
            keys.POINTER, b"{", bucket.storage.read_versioned(keys.POINTER).generation
        )
        api.refresh()
        assert api.get("/v1/stores/1/forecast").status_code == 200


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: {},
        lambda pointer: pointer | {"current": None},
        lambda pointer: pointer | {"current": "another"},
        lambda pointer: pointer | {"history": []},
        lambda pointer: pointer | {"history": pointer["history"][1:]},
        lambda pointer: pointer | {"dates": []},
        lambda pointer: [pointer],
        lambda _: None,
        dict.fromkeys,
    ],
)
def test_a_damaged_pointer_leaves_the_last_snapshot(tmp_path, damage):
    bucket = Bucket.make(tmp_path)
    bucket.publish([StoreSpec("1")])
    with serve(str(tmp_path)) as api:
        stored = bucket.storage.read_versioned(keys.POINTER)
        damaged = json.dumps(damage(json.loads(stored.data))).encode()
        bucket.storage.replace(keys.POINTER, damaged, stored.generation)
        api.refresh()
        assert api.get("/readyz").json()["release_refused"] is True
        assert api.get("/v1/stores/1/forecast").status_code == 200


def test_no_release_can_be_verified(tmp_path):
    bucket = Bucket.make(tmp_path)
    bucket.publish([StoreSpec("1")], name="a")
    bucket.publish([StoreSpec("1")], name="b")
    for name in "ab":
        (tmp_path / keys.release(name)).write_bytes(b"PAR1")
    with serve(str(tmp_path)) as api:
        assert api.get("/readyz").status_code == 503
        answer = api.get("/v1/stores/1/forecast")
        assert "cannot be verified" in answer.json()["detail"]
        page = api.get("/")
        assert page.status_code == 503
        assert "cannot be verified" in page.text


@pytest.mark.parametrize("turns", range(8))
def test_the_task_ends_also_if_a_refresh_is_wanted_while_it_is_cancelled(tmp_path, turns):
    """Or the service would not stop: it waits for this task, and it cancels it once."""
    Bucket.make(tmp_path).publish([StoreSpec("1")])

    async def cancel_while_wanted() -> None:
        task = api.service.refresh_task
        wanted = asyncio.create_task(api.service.refresher.refresh_soon(0.1))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await wanted
        await asyncio.wait({task}, timeout=2)
        assert task.cancelled()

    with serve(str(tmp_path)) as api:
        # Behind the pause between two refreshes it waits for the next one that is wanted.
        api.refresh()
        time.sleep(0.3)
        asyncio.run_coroutine_threadsafe(cancel_while_wanted(), api.loop).result(10)
