"""forecast_chunk: read a chunk's histories, predict, write the part. Knows no Ray.

Bad data of a store costs this store only. A file that cannot be read fails its store. Where the
computation over the whole chunk raises, the chunk is halved until the store that causes it stands
alone.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import pyarrow as pa
from threadpoolctl import ThreadpoolController

from ray_job import plan
from ray_job.bucket import parts
from ray_job.bucket.errors import CorruptError, InputError, NotFoundError, StorageError
from ray_job.bucket.reasons import Outcome, ReasonCode
from ray_job.bucket.storage import Storage, open_bucket
from ray_job.data.history_block import ChunkHistories, StoreHistory, UnreadStore
from ray_job.data.panel_builder import panels
from ray_job.data.partition import Columns, FileRows, read_store
from ray_job.data.requests import map_in_order
from ray_job.data.store_days import RowMeaning, StoreDays, read_store_days
from ray_job.forecasting.part_files import merge_outputs, write_part
from ray_job.forecasting.predict import predict_days, widened
from ray_job.forecasting.similar import with_new_series
from ray_job.forecasting.store_outcomes import ChunkOutput, StoreOutcomes
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

_StoreDays = Mapping[str, StoreDays] | None

_SLOW_SECONDS = 60.0
"""After a chunk has waited this long for requests that failed, its other stores are not tried."""


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
        storage = _open_storage(spec.bucket)
        columns = _columns(_load_model(_ArtifactKey(spec.artifact)), spec)
        histories, unread, days = _read_histories(storage, task.chunk, columns)
    except _ABOUT_THE_RUN:
        raise
    except Exception as error:  # noqa: BLE001 - no chunk ends the night of the others
        return ChunkHistories(task.chunk.digest, (), error=_reason(error)[1])
    return ChunkHistories(
        digest=task.chunk.digest,
        histories=histories,
        unread=unread,
        store_days=days,
        seconds=time.monotonic() - began,
        cpu_seconds=time.process_time() - cpu,
    )


def forecast_histories(task: Task, spec: RunSpec, histories: ChunkHistories) -> ChunkResult:
    """The result of a chunk whose histories were read: predictions, the part, the outcomes."""
    began, cpu = time.monotonic(), time.process_time()
    try:
        storage = _open_storage(spec.bucket)
        with _thread_pools(_ArtifactKey(spec.artifact)).limit(limits=thread_limit()):
            output = _forecast_or_halve(storage, task.chunk, spec, histories)
        part = write_part(storage, task, spec, output)
    except _ABOUT_THE_RUN:
        raise
    except Exception as error:  # noqa: BLE001 - no chunk ends the night of the others
        part = failed_part(task.chunk.store_ids, *_reason(error), spec, task.attempt + 1)
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
        ),
    )


_REASON_CODES: tuple[tuple[type[Exception], ReasonCode], ...] = (
    (NotFoundError, ReasonCode.GONE),
    (CorruptError, ReasonCode.CORRUPT),
    (InputError, ReasonCode.BAD_COLUMN),
    (StorageError, ReasonCode.STORAGE),
    (MemoryError, ReasonCode.MEMORY),
)
"""The first class that fits decides."""


def _reason(error: Exception) -> tuple[ReasonCode, str]:
    """The reason code and the reason of a store that met this error."""
    for kind, code in _REASON_CODES:
        if isinstance(error, kind):
            return code, str(error) or f"the worker had no memory left ({type(error).__name__})"
    return ReasonCode.ERROR, f"{type(error).__name__}: {error}"


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
    storage: Storage, chunk: Chunk, spec: RunSpec, chunk_histories: ChunkHistories | None
) -> ChunkOutput:
    model = _load_model(_ArtifactKey(spec.artifact))
    columns = _columns(model, spec)
    if chunk_histories is None or chunk_histories.error is not None:
        histories, unread, days = _read_histories(storage, chunk, columns)
    else:
        histories, unread = chunk_histories.histories, chunk_histories.unread
        days = chunk_histories.store_days
    # A store without rows is lost on its way through a block.
    missing = {*chunk.store_ids} - {s for s, _ in histories} - {s.store_id for s in unread}
    histories = sorted([*histories, *((store, ()) for store in missing)], key=lambda pair: pair[0])
    output = _predict_or_halve(histories, days, model, spec)
    if not unread:
        return output
    failures = [
        outcomes_without_forecast([store.store_id], Outcome.FAILED, store.reason_code, store.reason)
        for store in unread
    ]
    outcomes = pa.concat_tables([output.outcomes, *failures]).sort_by("store_id")
    return ChunkOutput(output.rows, outcomes)


def _columns(model: Model, spec: RunSpec) -> Columns:
    """The columns that the model needs beside the sales."""
    inputs = model.description.inputs
    return Columns(inputs.known_ahead, inputs.categories, spec.stock)


def _read_histories(
    storage: Storage, chunk: Chunk, columns: Columns
) -> tuple[Sequence[StoreHistory], Sequence[UnreadStore], _StoreDays]:
    """The histories of the chunk's stores, the stores that cannot be read, and `store_days`.

    See ChunkHistories.
    """
    histories: list[StoreHistory] = []
    days: dict[str, StoreDays] = {}
    unread: list[UnreadStore] = []
    waited_seconds = 0.0

    def read(store: tuple[str, list[str]]) -> tuple[Sequence[FileRows] | Exception, float]:
        began = time.monotonic()
        paths = store[1]
        try:
            if waited_seconds > _SLOW_SECONDS:
                raise StorageError(f"{paths[0]}: not read, since the storage did not answer")
            if chunk.items is not None:
                days[store[0]] = read_store_days(storage, paths)
            return read_store(storage, paths, columns, chunk.items), 0.0
        except MemoryError:
            # Another store, which was read before, may be the one that is too large.
            raise
        except tuple(kind for kind, _ in _REASON_CODES) as error:
            return error, time.monotonic() - began

    stores = _paths_by_store(chunk)
    answers = map_in_order(storage, read, stores)
    for (store_id, _), (files, seconds) in zip(stores, answers, strict=True):
        if isinstance(files, Exception):
            unread.append(UnreadStore(store_id, *_reason(files)))
            waited_seconds += seconds if isinstance(files, StorageError) else 0.0
        else:
            histories.append((store_id, files))
    return histories, unread, None if chunk.items is None else days


def _predict_or_halve(
    histories: Sequence[StoreHistory], days: _StoreDays, model: Model, spec: RunSpec
) -> ChunkOutput:
    """Predict all stores together; if this raises, each half by itself, down to one store."""
    try:
        return _predict(histories, days, model, spec)
    except Exception as error:
        if not histories or (isinstance(error, MemoryError) and len(histories) > 1):
            raise
        if len(histories) == 1:
            return _failed_output([histories[0][0]], error)
    middle = len(histories) // 2
    return merge_outputs(
        [
            _predict_or_halve(half, days, model, spec)
            for half in (histories[:middle], histories[middle:])
        ]
    )


def _predict(
    histories: Sequence[StoreHistory], days: _StoreDays, model: Model, spec: RunSpec
) -> ChunkOutput:
    basis = spec.basis
    reading = RowMeaning(spec.settings.sales.missing_is_zero, basis.undelivered)
    stores = [store for store, _ in histories]
    outcomes = StoreOutcomes(stores, basis, model.description.version, spec.similar)
    dates = (basis.first_day, basis.as_of, basis.last_day)
    columns = _columns(model, spec)
    read = panels(histories, columns, *dates, reading, days)
    # A chunk with some of a store's items cannot say which items the store lacks.
    similar = spec.similar if days is None else {}
    for panel in with_new_series(read, stores, similar, dates, columns.known_ahead):
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
        outcomes.add(panel, widened(predictions, spec.widths))
    return outcomes.output()


def _failed_output(stores: Sequence[str], error: Exception) -> ChunkOutput:
    outcomes = outcomes_without_forecast(stores, Outcome.FAILED, *_reason(error))
    return ChunkOutput(parts.PART_SCHEMA.empty_table(), outcomes)


def _paths_by_store(chunk: Chunk) -> list[tuple[str, list[str]]]:
    """Each store of the chunk with the keys of its files, sorted by store."""
    grouped: dict[str, list[str]] = {}
    for store, path in zip(
        chunk.files["store_id"].to_pylist(), chunk.files["path"].to_pylist(), strict=True
    ):
        grouped.setdefault(store, []).extend([path] if path != plan.NO_FILE else [])
    return sorted(grouped.items())


@lru_cache(maxsize=4)
def _open_storage(url: str) -> Storage:
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
