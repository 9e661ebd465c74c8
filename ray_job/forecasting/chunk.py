"""forecast_chunk: read a chunk's histories, predict, write the part. Knows no Ray.

Bad data of a store costs this store only. A file that cannot be read fails its store. Where the
computation over the whole chunk raises, the chunk is halved until the store that causes it stands
alone.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import pyarrow as pa
from threadpoolctl import ThreadpoolController

from ray_job import plan
from ray_job.bucket import parts
from ray_job.bucket.errors import CorruptError, InputError, NotFoundError
from ray_job.bucket.reasons import Outcome
from ray_job.bucket.storage import Storage, open_bucket
from ray_job.bucket.storage.patience import PATIENCE
from ray_job.data.history_block import ChunkHistories
from ray_job.data.panel_builder import panels
from ray_job.data.partition import Columns
from ray_job.data.store_days import RowMeaning
from ray_job.forecasting.part_files import merge_outputs, write_part
from ray_job.forecasting.predict import predict_days, widened
from ray_job.forecasting.similar import with_new_series
from ray_job.forecasting.store_outcomes import ChunkOutput, StoreOutcomes
from ray_job.forecasting.store_reading import failure_reason, read_histories
from ray_job.forecasting.task import (
    ChunkCost,
    ChunkResult,
    RunSpec,
    Task,
    failed_part,
    outcomes_without_forecast,
)
from ray_job.forecasting.worker_process import keep_freed_memory, thread_limit
from ray_job.model.model import Model
from ray_job.model.model import load as load_model
from ray_job.model.registry import Artifact
from ray_job.plan import Chunk

_ABOUT_THE_RUN = (InputError, CorruptError, NotFoundError, SystemError)
"""Errors that concern no single store, where a run raises them: the bucket or the model is wrong,
or the process is damaged."""


def forecast_chunk(task: Task, spec: RunSpec) -> ChunkResult:
    """Process one chunk. Idempotent: if its part is in the bucket already, the part is adopted.

    Stores whose data is bad, or whose files cannot be read, are `failed` in the outcomes. If the
    part itself cannot be written, all stores are `failed` and there is no part. Raises what is
    wrong with the bucket or the model as such.
    """
    return forecast_histories(task, spec, read_chunk(task, spec))


def read_chunk(task: Task, spec: RunSpec) -> ChunkHistories:
    """The histories of a chunk's stores. A store that cannot be read is named, with its reason.

    If the chunk cannot be read as a whole, the result has an `error`: `forecast_histories` then
    reads the chunk again in pieces. Raises what is wrong with the bucket or the model as such.
    """
    began, cpu = time.monotonic(), time.process_time()
    keep_freed_memory()
    try:
        storage = _open_storage(spec)
        columns = _columns(_load_model(_ArtifactKey(spec.artifact)), spec)
        histories = read_histories(storage, task.chunk, columns, spec.packs, spec.basis)
    except _ABOUT_THE_RUN:
        raise
    except Exception as error:  # noqa: BLE001 - no chunk ends the night of the others
        return ChunkHistories(task.chunk.digest, (), error=failure_reason(error)[1])
    return replace(
        histories,
        seconds=time.monotonic() - began,
        cpu_seconds=time.process_time() - cpu,
    )


def forecast_histories(task: Task, spec: RunSpec, histories: ChunkHistories) -> ChunkResult:
    """The result of a chunk whose histories were read: predictions, the part, the outcomes."""
    began, cpu = time.monotonic(), time.process_time()
    try:
        storage = _open_storage(spec)
        with _thread_pools(_ArtifactKey(spec.artifact)).limit(limits=thread_limit()):
            output = _forecast_or_halve(storage, task.chunk, spec, histories)
        part = write_part(storage, task, spec, output)
    except _ABOUT_THE_RUN:
        raise
    except Exception as error:  # noqa: BLE001 - no chunk ends the night of the others
        part = failed_part(task.chunk.store_ids, *failure_reason(error), spec, task.attempt + 1)
    return ChunkResult(
        digest=task.chunk.digest,
        part=part,
        cost=ChunkCost(
            seconds=histories.seconds + time.monotonic() - began,
            cpu_seconds=histories.cpu_seconds + time.process_time() - cpu,
            peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            rows=task.chunk.rows,
            bytes=task.chunk.bytes,
            ended_at=time.time(),
            packed_stores=0 if histories.packed is None else len(histories.packed.stores),
        ),
    )


def _forecast_or_halve(
    storage: Storage, chunk: Chunk, spec: RunSpec, histories: ChunkHistories | None = None
) -> ChunkOutput:
    """Forecast all stores together; if this raises, each half by itself, reading included.

    `histories` are those of the chunk, None if they are to be read. A lack of memory has many
    names: a thread that cannot start, a library that cannot be loaded.
    """
    try:
        return _forecast(storage, chunk, spec, histories)
    except _ABOUT_THE_RUN:
        raise
    except Exception as error:  # noqa: BLE001 - becomes the reason of the last store that is left
        halves = plan.halves(chunk, spec.basis)
        if halves is None:
            return _failed_output(chunk.store_ids, error)
    return merge_outputs([_forecast_or_halve(storage, half, spec) for half in halves])


def _forecast(
    storage: Storage, chunk: Chunk, spec: RunSpec, histories: ChunkHistories | None
) -> ChunkOutput:
    model = _load_model(_ArtifactKey(spec.artifact))
    columns = _columns(model, spec)
    if histories is None or histories.error is not None:
        histories = read_histories(storage, chunk, columns, spec.packs, spec.basis)
    output = _predict_or_halve(histories, model, spec)
    if not histories.unread:
        return output
    failures = [
        outcomes_without_forecast([store.store_id], Outcome.FAILED, store.reason_code, store.reason)
        for store in histories.unread
    ]
    outcomes = pa.concat_tables([output.outcomes, *failures]).sort_by("store_id")
    return ChunkOutput(output.rows, outcomes)


def _columns(model: Model, spec: RunSpec) -> Columns:
    """The columns that the model needs beside the sales."""
    inputs = model.description.inputs
    return Columns(inputs.known_ahead, inputs.categories, spec.stock)


def _predict_or_halve(read: ChunkHistories, model: Model, spec: RunSpec) -> ChunkOutput:
    """Predict all stores together; if this raises, each half by itself, down to one store."""
    try:
        return _predict(read, model, spec)
    except Exception as error:
        stores = [store for store, _ in read.histories]
        if not stores or (isinstance(error, MemoryError) and len(stores) > 1):
            raise
        if len(stores) == 1:
            return _failed_output(stores, error)
    middle = len(stores) // 2
    return merge_outputs(
        [
            _predict_or_halve(read.of_stores(half), model, spec)
            for half in (slice(middle), slice(middle, None))
        ]
    )


def _predict(read: ChunkHistories, model: Model, spec: RunSpec) -> ChunkOutput:
    basis = spec.basis
    reading = RowMeaning(spec.settings.sales.missing_is_zero, basis.undelivered)
    stores = [store for store, _ in read.histories]
    version = model.description.version
    outcomes = StoreOutcomes(stores, basis, version, spec.similar, spec.context)
    dates = (basis.first_day, basis.as_of, basis.last_day)
    columns = _columns(model, spec)
    built = panels(read.histories, columns, *dates, reading, read.store_days, read.packed)
    # A chunk with some of a store's items cannot say which items the store lacks.
    similar = spec.similar if read.store_days is None else {}
    for panel in with_new_series(built, stores, similar, dates, columns.known_ahead):
        predictions = predict_days(
            panel,
            basis.as_of,
            basis.target_dates,
            spec.context,
            model,
            spec.settings,
            basis.closed_weekdays,
            spec.similar,
        )
        outcomes.add(panel, widened(predictions, spec.widths, model.description.intervals))
    return outcomes.output()


def _failed_output(stores: Sequence[str], error: Exception) -> ChunkOutput:
    outcomes = outcomes_without_forecast(stores, Outcome.FAILED, *failure_reason(error))
    return ChunkOutput(parts.PART_SCHEMA.empty_table(), outcomes)


def _open_storage(spec: RunSpec) -> Storage:
    """The run's bucket. This process waits for it no longer than the run allows.

    Workers wait at the same time, and for half of what the run may; the other half is for what the
    run does before and after them. A chunk in the run's own process waits within that half.
    """
    PATIENCE.limit(spec.run_id, spec.settings.run.storage_wait_seconds / 2)
    return _open_bucket(spec.bucket)


@lru_cache(maxsize=4)
def _open_bucket(url: str) -> Storage:
    return open_bucket(url)


@dataclass(frozen=True)
class _ArtifactKey:
    """A hashable artifact: equal for the same one, so that a process unpickles it once."""

    artifact: Artifact

    def __hash__(self) -> int:
        return hash((self.artifact.sha256, self.artifact.version))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ArtifactKey) and self.artifact == other.artifact


@lru_cache(maxsize=2)
def _load_model(key: _ArtifactKey) -> Model:
    artifact = key.artifact
    return load_model(artifact.model, artifact.description, artifact.sha256)


@lru_cache(maxsize=2)
def _thread_pools(key: _ArtifactKey) -> ThreadpoolController:
    """The thread pools of all libraries in this process, after the model has loaded its own.

    To search for them takes as long as a dozen small files, so that it is done once.
    """
    _load_model(key)
    return ThreadpoolController()
