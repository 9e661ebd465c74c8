"""Past releases and receipts that callers asked for last."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import date

from cachetools import LRUCache

from api.store import snapshot
from api.store.snapshot import Snapshot
from ray_job.bucket import receipts
from ray_job.bucket.pointer import Published
from ray_job.bucket.receipts import Receipt
from ray_job.bucket.storage import Storage

_MAX_RELEASES = 4
_MAX_RECEIPTS = 64


class ReleaseCache:
    """Past releases by digest. For one event loop.

    Concurrent requests for one release load it once. `on_read` is called before each load.
    """

    def __init__(self, storage: Storage, on_read: Callable[[], None] = lambda: None) -> None:
        self._storage = storage
        self._on_read = on_read
        self._snapshots: LRUCache[str, Snapshot] = LRUCache(_MAX_RELEASES)
        self._loading: dict[str, asyncio.Task[Snapshot]] = {}

    async def get(self, entry: Published) -> Snapshot:
        """Raises NotFoundError, StorageError or CorruptError."""
        cached = self._snapshots.get(entry.sha256)
        if cached is not None:
            return cached
        task = self._loading.get(entry.sha256)
        if task is None:
            task = asyncio.create_task(self._load(entry))
            self._loading[entry.sha256] = task
            task.add_done_callback(lambda finished: self._store(entry.sha256, finished))
        return await asyncio.shield(task)

    async def _load(self, entry: Published) -> Snapshot:
        self._on_read()
        return await asyncio.to_thread(snapshot.load, self._storage, entry)

    def _store(self, digest: str, task: asyncio.Task[Snapshot]) -> None:
        del self._loading[digest]
        if not task.cancelled() and task.exception() is None:
            self._snapshots[digest] = task.result()


class ReceiptCache:
    """Receipts by run id. A receipt never changes. `on_read` is called before each read."""

    def __init__(self, storage: Storage, on_read: Callable[[], None] = lambda: None) -> None:
        self._storage = storage
        self._on_read = on_read
        self._receipts: LRUCache[str, Receipt] = LRUCache(_MAX_RECEIPTS)

    async def get(self, as_of: date, run_id: str) -> Receipt:
        """Raises NotFoundError, StorageError or CorruptError."""
        receipt = self._receipts.get(run_id)
        if receipt is None:
            self._on_read()
            receipt = await asyncio.to_thread(receipts.read, self._storage, as_of, run_id)
            self._receipts[run_id] = receipt
        return receipt
