"""Past releases, loaded when somebody asks what was said then, and kept for a while."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from api import snapshot
from api.metrics import Metrics
from api.snapshot import Snapshot
from ray_job.bucket.pointer import Published
from ray_job.bucket.storage import Storage

_KEPT = 4


class PastReleases:
    """The few that were asked for last. Concurrent questions for one release load it once."""

    def __init__(self, storage: Storage, metrics: Metrics) -> None:
        self._storage = storage
        self._metrics = metrics
        self._found: OrderedDict[str, Snapshot] = OrderedDict()
        self._loading: dict[str, asyncio.Task[Snapshot]] = {}

    async def get(self, entry: Published) -> Snapshot:
        """Raises NotFoundError, StorageError or CorruptError."""
        found = self._found.get(entry.sha256)
        if found is not None:
            self._found.move_to_end(entry.sha256)
            return found
        task = self._loading.get(entry.sha256)
        if task is None:
            task = asyncio.create_task(self._load(entry))
            self._loading[entry.sha256] = task
            task.add_done_callback(lambda done: self._loaded(entry.sha256, done))
        return await asyncio.shield(task)

    async def _load(self, entry: Published) -> Snapshot:
        self._metrics.storage_reads.labels("release").inc()
        return await asyncio.to_thread(snapshot.load, self._storage, entry)

    def _loaded(self, digest: str, task: asyncio.Task[Snapshot]) -> None:
        del self._loading[digest]
        if task.cancelled() or task.exception() is not None:
            return
        self._found[digest] = task.result()
        while len(self._found) > _KEPT:
            self._found.popitem(last=False)
