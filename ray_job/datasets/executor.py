"""The executor on Ray Data: `read_datasource(StorePartitions) → map_batches(forecast_block)`.

Ray Data fuses both steps into one task for each block of chunks. What every chunk needs is in Ray's
object store once, and each process unpickles it once. A worker that dies loses its own block only:
`execute` adopts the parts that were written, and tries the other chunks of the block again.
"""

from __future__ import annotations

import logging
import pickle
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import pyarrow as pa
import ray
from ray.data import Dataset
from ray.exceptions import OutOfMemoryError, RayError, RayTaskError
from ray.util.annotations import RayDeprecationWarning

from ray_job.datasets.blocks import make_blocks, memory_request
from ray_job.datasets.store_partitions import StorePartitions
from ray_job.datasets.worker import SharedSpec, forecast_block, read_block
from ray_job.events import emit
from ray_job.forecasting.task import ChunkResult, RunSpec, Task

_RETRIES = 0
"""`execute` retries lost chunks. With retries of its own, Ray would repeat without end a task that
was killed for want of memory."""

_OUT_OF_MEMORY = "the node ran out of memory, and Ray ended the worker"


class RayExecutor:
    """Runs tasks on the Ray cluster that this process is connected to; see `cluster`."""

    def run(self, tasks: Sequence[Task], spec: RunSpec) -> Iterator[ChunkResult]:
        """Yield results as blocks are done. A task whose worker or node died yields none.

        Raises MemoryError where there is one task only and Ray ended its worker for want of memory.
        """
        is_only_task = len(tasks) == 1
        dataset = night_dataset(tasks, spec)
        # One lost block of several is passed over, with an event. A single one raises its reason.
        dataset.context.max_errored_blocks = 0 if is_only_task else -1
        with _losses_as_events(enabled=not is_only_task):
            try:
                for bundle in dataset.iter_internal_ref_bundles():
                    for reference in bundle.block_refs:
                        yield from _results(reference)
            except OutOfMemoryError as error:
                if is_only_task:
                    raise MemoryError(_OUT_OF_MEMORY) from error
                emit("task_lost", "WARNING", reason=_OUT_OF_MEMORY)
            except RayError as error:
                emit("task_lost", "WARNING", reason=_reason(error))


def night_dataset(tasks: Sequence[Task], spec: RunSpec) -> Dataset:
    """The Dataset whose rows are the pickled results of the tasks' chunks.

    Tasks that request the most memory come first; each amount of memory is a Dataset of its own in
    a union, since a Dataset has one request for all of its tasks.
    """
    shared = [ray.put(pickle.dumps(spec))]
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    cpus = int(sum(node.get("CPU", 0) for node in nodes))
    # The head runs no tasks, and may be larger than every node that does.
    working_nodes = [node for node in nodes if node.get("CPU", 0)] or nodes
    largest = max(int(node.get("memory", 0)) for node in working_nodes)
    by_memory: dict[int, list[Task]] = {}
    for task in tasks:
        by_memory.setdefault(memory_request(task.chunk, largest), []).append(task)
    first, *others = [
        _forecasts(group, shared, memory, cpus)
        for memory, group in sorted(by_memory.items(), reverse=True)
    ]
    dataset: Dataset = first.union(*others) if others else first
    dataset.set_name(f"forecast {spec.run_id}")
    context = dataset.context
    # A block's table is one batch of `forecast_block`, however large it is.
    context.target_max_block_size = None
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    return dataset


def _forecasts(tasks: Sequence[Task], shared: SharedSpec, memory: int, cpus: int) -> Dataset:
    blocks = list(make_blocks(tasks, cpus))
    datasource = StorePartitions(blocks, partial(read_block, shared=shared))
    with warnings.catch_warnings():
        # The named parameters cannot bound the retries. By default a chunk that kills its worker is
        # repeated for ever.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        resources = {"num_cpus": 1, "memory": memory, "max_retries": _RETRIES}
        rows = ray.data.read_datasource(
            datasource, override_num_blocks=len(blocks), ray_remote_args=resources
        )
        forecasts: Dataset = rows.map_batches(
            forecast_block,
            fn_kwargs={"shared": shared},
            batch_size=None,
            batch_format="pyarrow",
            zero_copy_batch=True,
            **resources,
        )
    return forecasts


def _results(reference: ray.ObjectRef[pa.Table]) -> Iterator[ChunkResult]:
    """The results in a block of the Dataset; none where the block was lost with its node."""
    try:
        table = ray.get(reference)
    except RayError as error:
        emit("task_lost", "WARNING", reason=_reason(error))
        return
    for pickled in table["result"].to_pylist():
        answer = pickle.loads(pickled)  # noqa: S301 - made by our own workers
        if isinstance(answer, Exception):
            raise answer
        yield answer


def _reason(error: BaseException) -> str:
    """The line that names the reason: Ray writes it first, a traceback of a task has it last."""
    if isinstance(error, OutOfMemoryError):
        return _OUT_OF_MEMORY
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1 if isinstance(error, RayTaskError) else 0]


class _LossReporter(logging.Handler):
    """Turns Ray Data's log lines about lost blocks into events."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, RayError):
            emit("task_lost", "WARNING", reason=_reason(error))


@contextmanager
def _losses_as_events(*, enabled: bool) -> Iterator[None]:
    """Report lost blocks by events, and silence Ray Data's own log meanwhile."""
    logger = logging.getLogger("ray.data")
    reporter = _LossReporter(logging.ERROR)
    handlers, level, propagate = logger.handlers[:], logger.level, logger.propagate
    logger.handlers = [reporter] if enabled else [logging.NullHandler()]
    logger.propagate = False
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)
