"""What runs in the workers of Ray: reading a block's histories, and forecasting them."""

from __future__ import annotations

import faulthandler
import os
import pickle
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import ray
from ray import ObjectRef

from ray_job.data import history_block
from ray_job.data.history_block import ChunkHistories
from ray_job.datasets.blocks import PackedTask
from ray_job.forecasting.chunk import forecast_histories, read_chunk
from ray_job.forecasting.task import ChunkResult, RunSpec, Task

_TASKS_KEY = b"storecast.tasks"
RESULTS_SCHEMA = pa.schema([("result", pa.large_binary())])
"""One row for each chunk: a pickled ChunkResult, or the exception that it raised."""

SharedSpec = Sequence[ObjectRef[bytes]]
"""The reference to the pickled RunSpec, in a list, so that Ray passes the reference itself."""


def read_block(packed: Sequence[PackedTask], shared: SharedSpec) -> pa.Table:
    """The delivered rows of a block's chunks, as `history_block.encode` makes them.

    What is wrong with the bucket or the model as such is not raised here: `forecast_block` meets it
    again and returns it as a result.
    """
    tasks = [task.unpack() for task in packed]
    histories = [_read(task, shared) for task in tasks]
    try:
        table = history_block.encode(histories)
    except (pa.ArrowException, MemoryError) as error:
        # Chunks whose columns do not fit together are read again one by one.
        table = history_block.encode([_unread(task, error) for task in tasks])
    metadata = {**(table.schema.metadata or {}), _TASKS_KEY: pickle.dumps(list(packed))}
    return table.replace_schema_metadata(metadata)


def forecast_block(rows: pa.Table, shared: SharedSpec) -> pa.Table:
    """The results of the chunks whose histories `read_block` has read (RESULTS_SCHEMA)."""
    packed: list[PackedTask] = pickle.loads(rows.schema.metadata[_TASKS_KEY])  # noqa: S301 - ours
    results = [
        pickle.dumps(_forecast(task.unpack(), histories, shared))
        for task, histories in zip(packed, history_block.decode(rows), strict=True)
    ]
    return pa.table([pa.array(results, pa.large_binary())], schema=RESULTS_SCHEMA)


def _read(task: Task, shared: SharedSpec) -> ChunkHistories:
    try:
        with _guarded(task.deadline_seconds):
            return read_chunk(task, _run_spec(shared[0]))
    except Exception as error:  # noqa: BLE001 - `_forecast` meets it again
        return _unread(task, error)


def _unread(task: Task, error: Exception) -> ChunkHistories:
    return ChunkHistories(task.chunk.digest, (), error=str(error) or type(error).__name__)


def _forecast(task: Task, histories: ChunkHistories, shared: SharedSpec) -> ChunkResult | Exception:
    try:
        with _guarded(task.deadline_seconds):
            return forecast_histories(task, _run_spec(shared[0]), histories)
    except Exception as error:  # noqa: BLE001 - the driver raises it
        return error


@contextmanager
def _guarded(seconds: float) -> Iterator[None]:
    """End this process if the block takes longer, or if the process cannot be trusted any more.

    A timer of faulthandler acts under any lock. The process ends as if it were killed when compiled
    code failed without a reason, or no watchdog thread could start: both happen when memory is out.
    """
    stream = sys.__stderr__ or sys.stderr
    try:
        faulthandler.dump_traceback_later(seconds, exit=True, file=stream)
        yield
    except (SystemError, RuntimeError):
        os._exit(1)
    finally:
        faulthandler.cancel_dump_traceback_later()


_specs: dict[str, RunSpec] = {}
"""The RunSpec of the current run, by the name of its reference: a process unpickles it once."""


def _run_spec(shared: ObjectRef[bytes]) -> RunSpec:
    name = shared.hex()
    if name not in _specs:
        _specs.clear()
        _specs[name] = pickle.loads(ray.get(shared))  # noqa: S301 - made by our own driver
    return _specs[name]
