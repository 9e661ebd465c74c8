"""The executor on Ray Data: the only module that imports ray.

The Dataset's rows are chunks; `forecast_chunk` runs over it in tasks. Measured against an actor
pool it is as fast, and a worker that is killed takes only its own task with it. What every chunk
needs lies once in the object store and is unpickled once per process.

Ray Data starts the next task a fifth of a second after one has ended, which is as long as a small
chunk takes. So a block, which is what a task gets, holds several chunks, the last ones one each;
each chunk's result is handed over as soon as it is there.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import itertools
import logging
import os
import pickle
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import ray
from ray import ObjectRef
from ray.data import Dataset
from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayError,
    WorkerCrashedError,
)
from ray.util.annotations import RayDeprecationWarning

from ray_job.forecast import forecast_chunk
from ray_job.plan import Chunk
from ray_job.work import Result, Task, Work

_RETRIES = 0
"""`execution` tries again what was lost. Without retries, Ray does not repeat without end what was
killed for want of memory either."""
_LOSSES = (NodeDiedError, ObjectLostError, OutOfMemoryError, WorkerCrashedError)
_RESULT_BLOCK_BYTES = 1
"""Any result fills a block, so that none waits for those of the same task that come after it."""
_MOST_IN_A_TASK = 32
_SHARE = 1.5
"""Of what is left, a task gets an equal share for each processor, divided by this."""
_CODEC = "zstd"
_ROWS_SCHEMA = pa.schema([("task", pa.large_binary()), ("bytes", pa.int64())])
_LOCAL = "local"
_LIBRARIES = ("ray_job.job", "sklearn.ensemble")
_PROCESS_BYTES = 450 * 2**20
"""What a worker takes before it reads anything: its libraries and the model."""
_MEMORY_STEP = 256 * 2**20


class RayExecutor:
    """Works on the Ray cluster that this process is connected to; see `cluster`."""

    def run(self, tasks: Sequence[Task], work: Work) -> Iterator[Result]:
        """Results as they come. A task whose worker or node died, or was ended, gives none.

        Raises MemoryError where Ray ended the worker of the only task for want of memory.
        """
        shared = ray.put(pickle.dumps(work))
        dataset = _dataset(tasks, shared)
        dataset.set_name(f"run {work.run_id}")
        context = dataset.context
        context.target_max_block_size = _RESULT_BLOCK_BYTES
        # Of several tasks a lost one is passed over. Only a single one tells what it was lost for,
        # which Ray would log as an error of its own.
        single = len(tasks) == 1
        context.max_errored_blocks = 0 if single else -1
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        logging.getLogger("ray.data").setLevel(logging.CRITICAL if single else logging.ERROR)
        try:
            for row in dataset.iter_rows():
                found = pickle.loads(row["result"])  # noqa: S301 - our own workers'
                if isinstance(found, Exception):
                    raise found
                yield found
        except RayError as error:
            if single and isinstance(error, OutOfMemoryError):
                told = "the node ran out of memory, and Ray ended the worker"
                raise MemoryError(told) from error
            # A result that lay on a node when that was lost ends the iteration, and so does one
            # whose task died after it. What was not handed over yet counts as lost, too; its parts
            # are there for whoever does it again.
            if not single and not isinstance(error, _LOSSES):
                raise


def memory_to_ask(chunk: Chunk, largest_node: int) -> int:
    """The memory in bytes that a task reserves, in steps, so that few kinds of tasks arise.

    A chunk that no node could hold asks for the largest whole: it may be killed there, which is an
    outcome, while a request that nothing fulfils would wait for ever.
    """
    steps = -(-(_PROCESS_BYTES + chunk.memory_bytes) // _MEMORY_STEP)
    return min(steps * _MEMORY_STEP, largest_node)


def block_sizes(chunk_bytes: Sequence[int], cpus: int) -> Iterator[int]:
    """How many chunks each block gets, in order: guided self-scheduling (Polychronopoulos and Kuck,
    1987) by bytes, two thirds of a fair share of what is left, so that all processors end at about
    the same time though a chunk takes up to half as long again as its bytes let expect.

    Never more than some seconds of work: a cluster may grow while the run goes on.
    """
    left, begin = sum(chunk_bytes), 0
    while begin < len(chunk_bytes):
        share = left / (_SHARE * max(1, cpus))
        ahead = chunk_bytes[begin : begin + _MOST_IN_A_TASK]
        taken = list(itertools.accumulate(ahead))
        # Up to the chunk by whose middle the share is reached, and always one.
        middles = (end - one / 2 for end, one in zip(taken, ahead, strict=True))
        size = max(1, sum(middle <= share for middle in middles))
        yield size
        left -= taken[size - 1]
        begin += size


def _dataset(tasks: Sequence[Task], shared: ObjectRef[bytes]) -> Dataset:
    """One row for each task, in their order among those that ask for the same memory."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    largest = max(int(node.get("memory", 0)) for node in nodes)
    cpus = int(sum(node.get("CPU", 0) for node in nodes))
    asking: dict[int, list[Task]] = {}
    for task in tasks:
        asking.setdefault(memory_to_ask(task.chunk, largest), []).append(task)
    first, *others = [
        _mapped(ray.data.from_arrow(_blocks(theirs, cpus)), shared, memory)
        for memory, theirs in sorted(asking.items(), reverse=True)
    ]
    return first.union(*others) if others else first


def _blocks(tasks: Sequence[Task], cpus: int) -> list[pa.Table]:
    apart = any(task.alone for task in tasks)
    chunk_bytes = [task.chunk.bytes for task in tasks]
    sizes = itertools.repeat(1, len(tasks)) if apart else block_sizes(chunk_bytes, cpus)
    ends = itertools.accumulate(sizes)
    return [
        pa.Table.from_pylist([_packed(task) for task in tasks[begin:end]], _ROWS_SCHEMA)
        for begin, end in itertools.pairwise([0, *ends])
    ]


def _packed(task: Task) -> dict[str, Any]:
    """A row of the Dataset. The names of a night's files are much alike, and the driver holds the
    rows of all chunks: a million and a half of names are 180 MB as they are and 15 MB packed."""
    data = pickle.dumps(task)
    return {"task": pa.compress(data, _CODEC, asbytes=True), "bytes": len(data)}


def _unpacked(row: dict[str, Any]) -> Task:
    data = pa.decompress(row["task"], row["bytes"], _CODEC)
    task: Task = pickle.loads(data)  # noqa: S301 - our own driver's
    return task


def _mapped(chunks: Dataset, shared: ObjectRef[bytes], memory: int) -> Dataset:
    with warnings.catch_warnings():
        # None of the named parameters bounds the retries, and by default a chunk that kills its
        # worker is tried again for ever.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        return chunks.map(
            forecast_stores,  # type: ignore[arg-type]  # ray types the function without its fn_args
            fn_args=(shared,),
            num_cpus=1,
            memory=memory,
            max_retries=_RETRIES,
        )


@contextmanager
def cluster() -> Iterator[None]:
    """Connect to the cluster that `RAY_ADDRESS` names, or start one here for the time being.

    Ray sets it for the driver of a Ray job, and KubeRay in its containers. A cluster that merely
    runs on this machine is somebody else's: it may lack our code, and may end at any time.
    """
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS", _LOCAL)
    local = address == _LOCAL
    ray.init(
        address,
        logging_level=logging.ERROR,
        log_to_driver=False,
        # Nobody looks at a cluster that ends with this process, and its dashboard takes seconds.
        include_dashboard=False if local else None,
    )
    try:
        if local:
            _warm_up()
        yield
    finally:
        ray.shutdown()


def _warm_up() -> None:
    """Let every worker import what chunks need while the driver makes the first dataset.

    The task is a function within this one, so that it travels as code: to find one of the module a
    worker would import all of it first, and with the garbage collector on, which looks through what
    is loaded so far again and again, a sixth of the time.
    """

    def import_libraries() -> None:
        gc.disable()
        try:
            for name in _LIBRARIES:
                importlib.import_module(name)
        finally:
            gc.enable()

    load = ray.remote(num_cpus=1, max_retries=0)(import_libraries)
    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    for _ in range(int(resources.get("CPU", 1))):
        load.remote()


def forecast_stores(row: dict[str, Any], shared: ObjectRef[bytes]) -> dict[str, bytes]:
    """One chunk, in a worker process. What it raises is an answer, too: only death is a loss.

    A process that is not to be trusted any more ends as if it were killed: where compiled code
    failed without saying why, or no watchdog could start, as happens when memory is out.

    Ray's dashboard calls the stage by the function's name.
    """
    task = _unpacked(row)
    try:
        with _watched(task.deadline_seconds):
            found: Result | Exception = forecast_chunk(task, _work(shared))
    except (SystemError, RuntimeError):
        os._exit(1)
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
