"""The executor on Ray Data: the only module that imports ray.

The Dataset's rows are chunks; `forecast_chunk` runs over it in tasks. Measured against an actor
pool it is as fast, and a worker that is killed takes only its own chunk with it. What every chunk
needs lies once in the object store and is unpickled once per process.
"""

from __future__ import annotations

import faulthandler
import logging
import pickle
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray import ObjectRef
from ray.data import Dataset
from ray.util.annotations import RayDeprecationWarning

from ray_job.forecast import forecast_chunk
from ray_job.work import Result, Task, Work

_RETRIES = 0
"""`execution` tries again what was lost. Without retries, Ray does not repeat without end what was
killed for want of memory either."""


class RayExecutor:
    """Works on the Ray cluster that this process is connected to; see `cluster`."""

    def run(self, tasks: Sequence[Task], work: Work) -> Iterator[Result]:
        """Results as they come. A task whose worker died, or was ended for hanging, gives none."""
        shared = ray.put(pickle.dumps(work))
        rows = [{"task": pickle.dumps(task)} for task in tasks]
        dataset = _mapped(ray.data.from_items(rows, override_num_blocks=len(rows)), shared)
        context = dataset.context
        context.max_errored_blocks = -1
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        for row in dataset.iter_rows():
            found = pickle.loads(row["result"])  # noqa: S301 - our own workers'
            if isinstance(found, Exception):
                raise found
            yield found


def _mapped(chunks: Dataset, shared: ObjectRef[bytes]) -> Dataset:
    with warnings.catch_warnings():
        # None of the named parameters bounds the retries, and by default a chunk that kills its
        # worker is tried again for ever.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        return chunks.map(
            _work_on,  # type: ignore[arg-type]  # ray types the function without its fn_args
            fn_args=(shared,),
            num_cpus=1,
            max_retries=_RETRIES,
        )


@contextmanager
def cluster() -> Iterator[None]:
    """Connect to the cluster of the environment, or start one on this machine for the time being.

    Inside a Ray job (`RAY_ADDRESS` or a job's own environment) Ray finds the cluster by itself.
    """
    if ray.is_initialized():
        yield
        return
    ray.init(
        logging_level=logging.ERROR,
        log_to_driver=False,
    )
    try:
        yield
    finally:
        ray.shutdown()


def _work_on(row: dict[str, Any], shared: ObjectRef[bytes]) -> dict[str, bytes]:
    """One chunk, in a worker process. What it raises is an answer, too: only death is a loss."""
    task: Task = pickle.loads(row["task"])  # noqa: S301 - our own driver's
    try:
        with _watched(task.deadline_seconds):
            found: Result | Exception = forecast_chunk(task, _work(shared))
    except Exception as error:  # noqa: BLE001 - handed to the driver, which raises it
        found = error
    return {"result": pickle.dumps(found)}


@contextmanager
def _watched(seconds: float) -> Iterator[None]:
    """End this process if what it does takes longer, wherever it hangs: no lock can stop that."""
    told = sys.__stderr__ or sys.stderr
    faulthandler.dump_traceback_later(seconds, exit=True, file=told)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


_works: dict[str, Work] = {}


def _work(shared: ObjectRef[bytes]) -> Work:
    name = shared.hex()
    if name not in _works:
        _works.clear()
        _works[name] = pickle.loads(ray.get(shared))  # noqa: S301 - our own driver's
    return _works[name]
