"""Requests to the storage: many in flight where it is far away, in sequence where it is local."""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from ray_job.bucket.storage import Storage
from ray_job.bucket.storage.directory import DirectoryStorage

_CONNECTIONS = 16
WORKING_FOLDER = "storecast-work-"
"""How the names of commands' working folders in the system's temporary directory begin."""

In = TypeVar("In")
Out = TypeVar("Out")


@contextmanager
def working_folder() -> Iterator[Path]:
    """A folder for local files of a command, deleted afterwards.

    Clean-up deletes it if the process, whose id its name has, is killed.
    """
    suffix = f"-{os.getpid()}"
    with tempfile.TemporaryDirectory(prefix=WORKING_FOLDER, suffix=suffix) as name:
        yield Path(name)


def is_local(storage: Storage) -> bool:
    """Whether the bucket is a directory of this machine."""
    return isinstance(storage, DirectoryStorage)


def map_in_order(
    storage: Storage, function: Callable[[In], Out], items: Iterable[In]
) -> Iterator[Out]:
    """Yield `function(item)` for every item, in order.

    At most `_CONNECTIONS` results are ahead of the caller. For a local bucket no threads are used,
    since they cost more than they save.
    """
    if is_local(storage):
        yield from map(function, items)
        return
    pending: deque[Future[Out]] = deque()
    with ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="requests") as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > _CONNECTIONS:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
