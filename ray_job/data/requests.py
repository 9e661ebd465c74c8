"""Many requests in flight where the storage is far away, one after the other where it is near."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from ray_job.bucket.storage import Storage
from ray_job.bucket.storage.directory import DirectoryStorage

_CONNECTIONS = 16

In = TypeVar("In")
Out = TypeVar("Out")


def is_local(storage: Storage) -> bool:
    return isinstance(storage, DirectoryStorage)


def in_order(storage: Storage, work: Callable[[In], Out], items: Iterable[In]) -> Iterator[Out]:
    """`work` done on every item, in order, and never many results ahead of who takes them.

    On a local disk threads cost more than they give.
    """
    if is_local(storage):
        yield from map(work, items)
        return
    waiting: deque[Future[Out]] = deque()
    with ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="requests") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > _CONNECTIONS:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
