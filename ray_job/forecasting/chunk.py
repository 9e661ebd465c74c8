"""forecast_chunk: read, predict, write the part, say what became of each store. Knows no Ray.

One store's bad data costs that store only: a file that cannot be read fails its store, and where
the computation over the whole chunk raises, the chunk is halved until the culprit stands alone.
"""

from __future__ import annotations

import itertools
import os
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
from threadpoolctl import ThreadpoolController

from ray_job import plan
from ray_job.bucket import keys, parts
from ray_job.bucket.errors import (
    ConflictError,
    CorruptError,
    InputError,
    NotFoundError,
    StorageError,
)
from ray_job.bucket.parts import WrittenPart
from ray_job.bucket.storage import Storage, open_bucket
from ray_job.data import panel_builder
from ray_job.data.partition import Columns, Rows, read_store
from ray_job.data.requests import in_order
from ray_job.forecasting.part_files import is_final, read
from ray_job.forecasting.predict import predict_days
from ray_job.forecasting.store_outcomes import ChunkOutput, StoreOutcomes
from ray_job.forecasting.task import Cost, Result, RunSpec, Task, failed
from ray_job.model.model import Model
from ray_job.model.model import load as load_model
from ray_job.model.registry import Artifact
from ray_job.plan import Chunk

_ABOUT_THE_RUN = (InputError, CorruptError, NotFoundError, SystemError)
"""What speaks of no store where it comes from: bucket or model, or a process that is damaged."""

_SLOW_SECONDS = 60.0
"""A storage that keeps a chunk waiting this long in vain is not asked for its other stores."""


def forecast_chunk(task: Task, spec: RunSpec) -> Result:
    """Do one chunk. Idempotent: whoever finds its part written already adopts it.

    Stores whose data is bad are `failed` in the outcomes, and so are those whose files cannot be
    read. Where the part itself cannot be written all stores are, and there is no part. Raises
    what is wrong with the bucket or the model as such.
    """
    began, cpu = time.monotonic(), time.process_time()
    _keep_freed_memory()
    try:
        storage = _storage(spec.bucket)
        with _pools(_ArtifactKey(spec.artifact)).limit(limits=_threads()):
            share = _apart(storage, task.chunk, spec)
        done = write(storage, task, spec, share)
    except _ABOUT_THE_RUN:
        raise
    except Exception as error:  # noqa: BLE001 - no chunk ends the night of the others
        done = failed(
            task.chunk.store_ids,
            *_told(error),
            spec.run_id,
            spec.generated_at,
            task.attempt + 1,
        )
    return Result(
        digest=task.chunk.digest,
        done=done,
        cost=Cost(
            seconds=time.monotonic() - began,
            cpu_seconds=time.process_time() - cpu,
            peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            rows=task.chunk.rows,
            bytes=task.chunk.bytes,
            ended_at=time.time(),
        ),
    )


def write(storage: Storage, task: Task, spec: RunSpec, share: ChunkOutput) -> WrittenPart:
    """Write the part of a chunk, or adopt the one that somebody else wrote meanwhile.

    A rival's part that is broken, or lacks stores that this one has, is passed over.
    """
    data = parts.encode(
        share.rows,
        share.outcomes,
        task.chunk.digest,
        run_id=spec.run_id,
        generated_at=spec.generated_at.isoformat(),
    )
    digest = parts.sha256(data)
    for attempt in itertools.count(task.attempt):
        key = keys.part(spec.basis.as_of, task.chunk.digest, attempt)
        try:
            storage.create(key, data)
        except ConflictError:
            rival = _rival(storage, key, task.chunk.digest, attempt)
            if rival is None or (is_final(share.outcomes) and not is_final(rival.outcomes)):
                continue
            return rival
        break
    return WrittenPart(share.outcomes, key, digest, spec.run_id, spec.generated_at, attempt + 1)


def _rival(storage: Storage, key: str, digest: str, attempt: int) -> WrittenPart | None:
    try:
        return read(storage, key, digest, attempt)
    except CorruptError:
        return None


def merge(shares: Sequence[ChunkOutput]) -> ChunkOutput:
    """The shares of a chunk's stores as one, with row ranges counted anew."""
    rows = pa.concat_tables([share.rows for share in shares])
    offsets = np.cumsum([0, *(share.rows.num_rows for share in shares)])
    outcomes = [
        share.outcomes.set_column(
            share.outcomes.schema.get_field_index("first_row"),
            "first_row",
            pa.array(
                [
                    None if first is None else first + int(offset)
                    for first in share.outcomes["first_row"].to_pylist()
                ],
                pa.int64(),
            ),
        )
        for share, offset in zip(shares, offsets, strict=False)
    ]
    return ChunkOutput(rows, pa.concat_tables(outcomes))


def failed_share(stores: Sequence[str], code: str, reason: str) -> ChunkOutput:
    """Outcomes of stores that failed; no rows."""
    rows = [_failed(store, code, reason) for store in stores]
    return ChunkOutput(
        parts.PART_SCHEMA.empty_table(), pa.Table.from_pylist(rows, parts.OUTCOME_SCHEMA)
    )


def _told(error: Exception) -> tuple[str, str]:
    """The reason code and the reason of a store that met this error."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code, str(error) or f"the worker had no memory left ({type(error).__name__})"
    return "error", f"{type(error).__name__}: {error}"


_CODES: tuple[tuple[type[Exception], str], ...] = (
    (NotFoundError, "gone"),
    (CorruptError, "corrupt"),
    (InputError, "bad_column"),
    (StorageError, "storage"),
    (MemoryError, "memory"),
)
"""The first class that fits. `gone`: the table was vacuumed since the plan, or a file was lost."""


def _apart(storage: Storage, chunk: Chunk, spec: RunSpec) -> ChunkOutput:
    """All stores at once; where that raises, each half on its own, reading included.

    A lack of memory has many names: a thread that cannot start, a library that cannot be loaded.
    """
    try:
        return _forecast(storage, chunk, spec)
    except _ABOUT_THE_RUN:
        raise
    except Exception as error:  # noqa: BLE001 - told of the store that is left
        halves = plan.halves(chunk, spec.basis)
        if halves is None:
            return failed_share(chunk.store_ids, *_told(error))
    return merge([_apart(storage, half, spec) for half in halves])


def _forecast(storage: Storage, chunk: Chunk, spec: RunSpec) -> ChunkOutput:
    model = _model(_ArtifactKey(spec.artifact))
    columns = Columns(
        known_ahead=model.description.inputs.known_ahead,
        categories=model.description.inputs.categories,
    )
    bad: list[dict[str, object]] = []
    histories: list[tuple[str, Sequence[Rows]]] = []
    waited = 0.0

    def asked(one: tuple[str, list[str]]) -> tuple[Sequence[Rows] | Exception, float]:
        began = time.monotonic()
        try:
            if waited > _SLOW_SECONDS:
                raise StorageError(f"{one[1][0]}: not asked for, as the storage did not answer")
            return read_store(storage, one[1], columns, chunk.items), 0.0
        except MemoryError:
            # Whoever else is read already may be the one that is too large.
            raise
        except tuple(kind for kind, _ in _CODES) as error:
            return error, time.monotonic() - began

    wanted = _paths(chunk)
    for (store, _), (found, seconds) in zip(wanted, in_order(storage, asked, wanted), strict=True):
        if isinstance(found, Exception):
            bad.append(_failed(store, *_told(found)))
            waited += seconds if isinstance(found, StorageError) else 0.0
        else:
            histories.append((store, found))
    share = _halving(histories, columns, model, spec)
    if not bad:
        return share
    outcomes = pa.concat_tables(
        [share.outcomes, pa.Table.from_pylist(bad, parts.OUTCOME_SCHEMA)]
    ).sort_by("store_id")
    return ChunkOutput(share.rows, outcomes)


def _halving(
    stores: Sequence[tuple[str, Sequence[Rows]]],
    columns: Columns,
    model: Model,
    spec: RunSpec,
) -> ChunkOutput:
    """All at once; where that raises, each half on its own, down to the store that does it."""
    try:
        return _together(stores, columns, model, spec)
    except Exception as error:
        if not stores or (isinstance(error, MemoryError) and len(stores) > 1):
            raise
        if len(stores) == 1:
            return failed_share([stores[0][0]], *_told(error))
    middle = len(stores) // 2
    return merge(
        [_halving(half, columns, model, spec) for half in (stores[:middle], stores[middle:])]
    )


def _together(
    stores: Sequence[tuple[str, Sequence[Rows]]],
    columns: Columns,
    model: Model,
    spec: RunSpec,
) -> ChunkOutput:
    on = spec.basis
    tally = StoreOutcomes([store for store, _ in stores], on, model.description.version)
    for panel in panel_builder.panels(stores, columns, on.first_day, on.as_of, on.last_day):
        predictions = predict_days(
            panel, on.as_of, on.target_dates, spec.context, model, spec.settings
        )
        tally.add(panel, predictions)
    return tally.share()


def _failed(store: str, code: str, reason: str) -> dict[str, object]:
    return {"store_id": store, "outcome": "failed", "reason_code": code, "reason": reason}


def _paths(chunk: Chunk) -> list[tuple[str, list[str]]]:
    grouped: dict[str, list[str]] = {}
    for store, path in zip(
        chunk.files["store_id"].to_pylist(), chunk.files["path"].to_pylist(), strict=True
    ):
        grouped.setdefault(store, []).append(path)
    return sorted(grouped.items())


def _threads() -> int:
    return int(os.environ.get("OMP_NUM_THREADS", "1"))


@lru_cache(maxsize=1)
def _keep_freed_memory() -> None:
    """Let the heap keep what a chunk gives back for the next one, once per process.

    glibc returns freed memory to the system above a threshold of twice the largest block that was
    ever freed, at most 64 MiB (mallopt(3), M_MMAP_THRESHOLD). In a worker that sees nothing but
    chunks that is some MiB, and each chunk faults 5,000 pages in again: a twentieth of its time.
    Elsewhere this does nothing.
    """
    np.empty(_LARGEST_BLOCK, np.uint8)


_LARGEST_BLOCK = 31 * 2**20


@lru_cache(maxsize=4)
def _storage(url: str) -> Storage:
    return open_bucket(url)


@dataclass(frozen=True)
class _ArtifactKey:
    """Equal for the same artifact, so that a process unpickles it once."""

    artifact: Artifact

    def __hash__(self) -> int:
        return hash((self.artifact.sha256, self.artifact.version))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ArtifactKey) and self.artifact == other.artifact


@lru_cache(maxsize=2)
def _model(key: _ArtifactKey) -> Model:
    artifact = key.artifact
    return load_model(artifact.model, artifact.description, artifact.sha256)


@lru_cache(maxsize=2)
def _pools(key: _ArtifactKey) -> ThreadpoolController:
    """The thread pools of the libraries that this process has loaded, the model's among them: to
    look for them takes as long as a dozen small files."""
    _model(key)
    return ThreadpoolController()
