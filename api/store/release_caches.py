"""Past releases and receipts that callers asked for last."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

from cachetools import LRUCache

from api.store import snapshot
from api.store.snapshot import Snapshot
from api.store.storage_pool import StoragePool
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

    def __init__(
        self, storage: Storage, pool: StoragePool, on_read: Callable[[], None] = lambda: None
    ) -> None:
        self._storage = storage
        self._pool = pool
        self._on_read = on_read
        self._snapshots: LRUCache[str, Snapshot] = LRUCache(_MAX_RELEASES)

    async def get(self, entry: Published) -> Snapshot:
        """Raises NotFoundError, StorageError or CorruptError."""
        cached = self._snapshots.get(entry.sha256)
        if cached is not None:
            return cached
        loaded = await self._pool.run(("release", entry.sha256), lambda: self._load(entry))
        self._snapshots[entry.sha256] = loaded
        return loaded

    def _load(self, entry: Published) -> Snapshot:
        self._on_read()
        return snapshot.load(self._storage, entry)


class ReceiptCache:
    """Receipts by run id. A receipt never changes. `on_read` is called before each read."""

    def __init__(
        self, storage: Storage, pool: StoragePool, on_read: Callable[[], None] = lambda: None
    ) -> None:
        self._storage = storage
        self._pool = pool
        self._on_read = on_read
        self._receipts: LRUCache[str, Receipt] = LRUCache(_MAX_RECEIPTS)

    async def get(self, as_of: date, run_id: str) -> Receipt:
        """Raises NotFoundError, StorageError or CorruptError."""
        receipt = self._receipts.get(run_id)
        if receipt is None:
            receipt = await self._pool.run(("receipt", run_id), lambda: self._read(as_of, run_id))
            self._receipts[run_id] = receipt
        return receipt

    def _read(self, as_of: date, run_id: str) -> Receipt:
        self._on_read()
        return receipts.read(self._storage, as_of, run_id)
