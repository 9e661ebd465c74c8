"""What a worker's process does to be fast: its heap and its threads."""

from __future__ import annotations

import os
from functools import lru_cache

import numpy as np

_LARGEST_BLOCK = 31 * 2**20


def thread_limit() -> int:
    """How many threads a library may use, from OMP_NUM_THREADS; 1 by default."""
    return int(os.environ.get("OMP_NUM_THREADS", "1"))


@lru_cache(maxsize=1)
def keep_freed_memory() -> None:
    """Let the heap of this process keep freed memory for the next chunk.

    glibc returns freed memory to the system above a threshold of twice the largest block that was
    ever freed, at most 64 MiB (mallopt(3), M_MMAP_THRESHOLD). To free one large block raises this
    threshold. Without it each chunk faults 5,000 pages in again, a twentieth of its time. With
    another C library this does nothing.
    """
    np.empty(_LARGEST_BLOCK, np.uint8)
