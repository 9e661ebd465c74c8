"""Past releases and receipts."""

from __future__ import annotations

import asyncio

import pytest

from api.store.release_caches import ReceiptCache, ReleaseCache
from api.store.storage_pool import StoragePool
from ray_job.bucket import keys, receipts
from ray_job.bucket.errors import NotFoundError
from tests.api.fixtures.bucket import AS_OF, Bucket, StoreSpec
from tests.api.fixtures.records import receipt


def test_concurrent_requests_load_a_release_once(tmp_path):
    bucket = Bucket.make(tmp_path)
    entry = bucket.publish([StoreSpec("1")])
    reads = []

    async def load() -> None:
        cache = ReleaseCache(bucket.storage, StoragePool(), lambda: reads.append("release"))
        snapshots = await asyncio.gather(*(cache.get(entry) for _ in range(5)))
        assert {snapshot.name for snapshot in snapshots} == {entry.release}
        assert await cache.get(entry) is snapshots[0]

    asyncio.run(load())
    assert reads == ["release"]


def test_a_release_that_could_not_be_loaded_is_tried_again(tmp_path):
    bucket = Bucket.make(tmp_path)
    entry = bucket.publish([StoreSpec("1")])
    path = tmp_path / keys.release(entry.release)

    async def load() -> None:
        cache = ReleaseCache(bucket.storage, StoragePool())
        path.rename(tmp_path / "moved")
        with pytest.raises(NotFoundError):
            await cache.get(entry)
        (tmp_path / "moved").rename(path)
        assert (await cache.get(entry)).name == entry.release

    asyncio.run(load())


def test_a_receipt_is_read_once(tmp_path):
    bucket = Bucket.make(tmp_path)
    receipts.write(bucket.storage, receipt("r"))
    reads = []

    async def read() -> None:
        cache = ReceiptCache(bucket.storage, StoragePool(), lambda: reads.append("receipt"))
        assert await cache.get(AS_OF, "r") == await cache.get(AS_OF, "r") == receipt("r")

    asyncio.run(read())
    assert reads == ["receipt"]
