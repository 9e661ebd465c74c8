"""Receipts of runs, for those who ask where numbers come from."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from datetime import date

from ray_job.bucket import receipts
from ray_job.bucket.receipts import Receipt
from ray_job.bucket.storage import Storage

_KEPT = 64


class Receipts:
    """Receipts never change: the last ones that were asked for are kept."""

    def __init__(self, storage: Storage, on_read: Callable[[], None] = lambda: None) -> None:
        self._storage = storage
        self._on_read = on_read
        self._kept: OrderedDict[str, Receipt] = OrderedDict()

    async def get(self, as_of: date, run_id: str) -> Receipt:
        """Raises NotFoundError, StorageError or CorruptError."""
        found = self._kept.get(run_id)
        if found is None:
            self._on_read()
            found = await asyncio.to_thread(receipts.read, self._storage, as_of, run_id)
            self._kept[run_id] = found
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return found
