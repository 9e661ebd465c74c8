"""What a run took, summed up: chunk times, and the estimate of what it cost."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from ray_job.bucket.receipts import ChunkTimes, Cost
from ray_job.settings import Prices
from ray_job.work import Result

_HOUR = 3600.0
_GIB = 2.0**30


def chunk_times(results: Sequence[Result]) -> ChunkTimes:
    """Over the chunks that were done; adopted ones took no time."""
    seconds = [result.cost.seconds for result in results if not result.adopted]
    if not seconds:
        return ChunkTimes()
    return ChunkTimes(
        chunks=len(seconds),
        shortest=round(min(seconds), 3),
        median=round(statistics.median(seconds), 3),
        longest=round(max(seconds), 3),
    )


def estimate(results: Sequence[Result], seconds: float, prices: Prices) -> Cost | None:
    """The chunks' CPU time and their processes' memory for as long as the run took, at `prices`.

    `per_1000_stores` is over the stores of the chunks that were done, None where that is nothing.
    What idles is not in it: what a bill says beyond this is the cluster's starting and waiting.
    Returns None where no prices are given.
    """
    if not (prices.cpu_hour or prices.memory_gib_hour):
        return None
    done = [result for result in results if not result.adopted]
    cpu = sum(one.cost.cpu_seconds for one in done) / _HOUR * prices.cpu_hour
    peak = max((one.cost.peak_memory_bytes for one in done), default=0) / _GIB
    memory = peak * seconds / _HOUR * prices.memory_gib_hour
    stores = sum(one.done.outcomes.num_rows for one in done)
    total = cpu + memory
    return Cost(
        currency=prices.currency,
        cpu=round(cpu, 8),
        memory=round(memory, 8),
        total=round(total, 8),
        per_1000_stores=round(1000 * total / stores, 8) if stores else None,
    )
