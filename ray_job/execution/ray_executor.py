"""The executor on Ray: the only module that imports ray.

A Ray task processes a block of chunks and yields each result as soon as it is made (a streaming
generator). All Ray tasks are submitted at once: Ray runs them as processors get free, and an
autoscaler sees what is left to be done. A worker that is killed loses its own Ray task only. What
every chunk needs is in the object store once, and each process unpickles it once.
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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import ray
from ray import ObjectRef, ObjectRefGenerator
from ray.exceptions import OutOfMemoryError, RayError, RayTaskError

from ray_job.events import emit
from ray_job.forecasting.chunk import forecast_chunk
from ray_job.forecasting.task import ChunkResult, RunSpec, Task
from ray_job.plan import Chunk

_RETRIES = 0
"""`execute` retries lost tasks. With retries of its own, Ray would repeat without end a task that
was killed for want of memory."""
_POLL_SECONDS = 0.1
"""How long a result may wait for others, so that the driver collects them in groups."""
_MAX_CHUNKS_PER_BLOCK = 8
_BLOCKS_PER_CPU = 1.5
"""A block gets what is left, divided by the number of processors and by this."""
_CODEC = "zstd"
_LOCAL = "local"
_WARM_UP_IMPORTS = ("ray_job.execution.ray_executor", "sklearn.ensemble")
_PROCESS_BYTES = 450 * 2**20
"""The memory of a worker before it reads anything: its libraries and the model."""
_MEMORY_STEP = 256 * 2**20

Packed = tuple[bytes, int]
"""A compressed task, and its length in bytes before compression.

The driver holds all tasks, and their file names are similar: 1.5 million names take 180 MB as they
are, and 15 MB compressed.
"""


class RayExecutor:
    """Runs tasks on the Ray cluster that this process is connected to; see `cluster`."""

    def run(self, tasks: Sequence[Task], spec: RunSpec) -> Iterator[ChunkResult]:
        """Yield results as they are made. A task whose worker or node died yields none.

        Raises MemoryError where there is one task only and Ray ended its worker for want of memory.
        """
        pending = _submit(tasks, spec)
        try:
            while pending:
                ready, _ = ray.wait(
                    pending, num_returns=len(pending), timeout=_POLL_SECONDS, fetch_local=False
                )
                for generator in ready:
                    yield from _results(generator, is_only_task=len(tasks) == 1)
                    if generator.is_finished():  # type: ignore[union-attr]  # typed as a reference
                        pending.remove(generator)
        finally:
            # A caller that stops early, or whose run failed, does not wait for the other tasks.
            for generator in pending:
                ray.cancel(generator, force=True)


def _results(generator: ObjectRefGenerator, *, is_only_task: bool) -> Iterator[ChunkResult]:
    """The results that a Ray task has yielded since the last call.

    The loss of its worker is the last thing that a Ray task reports. A result that was on a lost
    node is lost, too; its part is in the bucket and is adopted by the next attempt.
    """
    while generator.next_ready():
        try:
            reference = next(generator)
        except StopIteration:
            # The task ended after `next_ready` had answered.
            return
        try:
            answer = pickle.loads(ray.get(reference))  # noqa: S301 - made by our own workers
        except OutOfMemoryError as error:
            reason = "the node ran out of memory, and Ray ended the worker"
            if is_only_task:
                raise MemoryError(reason) from error
            emit("task_lost", "WARNING", reason=reason)
        except RayError as error:
            emit("task_lost", "WARNING", reason=_first_or_last_line(error))
        else:
            if isinstance(answer, Exception):
                raise answer
            yield answer


def _first_or_last_line(error: RayError) -> str:
    """The line that names the reason: Ray writes it first, a traceback of a task has it last."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1 if isinstance(error, RayTaskError) else 0]


def _submit(tasks: Sequence[Task], spec: RunSpec) -> list[ObjectRefGenerator]:
    """Submit the Ray tasks; those that ask for the most memory come first."""
    shared = ray.put(pickle.dumps(spec))
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    cpus = int(sum(node.get("CPU", 0) for node in nodes))
    # The head runs no tasks, and may be larger than every node that does.
    working_nodes = [node for node in nodes if node.get("CPU", 0)] or nodes
    largest = max(int(node.get("memory", 0)) for node in working_nodes)
    by_memory: dict[int, list[Task]] = {}
    for task in tasks:
        by_memory.setdefault(memory_request(task.chunk, largest), []).append(task)
    forecast = ray.remote(forecast_stores)
    return [
        forecast.options(
            name=f"forecast {spec.run_id}",
            num_cpus=1,
            memory=memory,
            num_returns="streaming",
            max_retries=_RETRIES,
        ).remote(block, [shared])
        for memory, group in sorted(by_memory.items(), reverse=True)
        for block in _blocks(group, cpus)
    ]


def memory_request(chunk: Chunk, largest_node: int) -> int:
    """The memory in bytes that the task of a chunk reserves, in steps of 256 MiB.

    A chunk that fits on no node requests the whole largest node. It may be killed there, which is
    an outcome; a request that no node can fulfil would wait for ever.
    """
    steps = -(-(_PROCESS_BYTES + chunk.memory_bytes) // _MEMORY_STEP)
    return min(steps * _MEMORY_STEP, largest_node)


def block_sizes(chunk_bytes: Sequence[int], cpus: int) -> Iterator[int]:
    """How many chunks each block gets, in order.

    This is guided self-scheduling (Polychronopoulos and Kuck, 1987) by bytes: each block gets two
    thirds of a processor's equal share of the bytes that are left, so that all processors end at
    about the same time, although a chunk may take half as long again as its bytes suggest. A block
    never holds more than some seconds of processing, since a cluster may grow during the run.
    """
    left, begin = sum(chunk_bytes), 0
    while begin < len(chunk_bytes):
        block_bytes = left / (_BLOCKS_PER_CPU * max(1, cpus))
        candidates = chunk_bytes[begin : begin + _MAX_CHUNKS_PER_BLOCK]
        ends = list(itertools.accumulate(candidates))
        # Up to the chunk in whose middle the block is full, and always one.
        middles = (end - size / 2 for end, size in zip(ends, candidates, strict=True))
        count = max(1, sum(middle <= block_bytes for middle in middles))
        yield count
        left -= ends[count - 1]
        begin += count


def _blocks(tasks: Sequence[Task], cpus: int) -> Iterator[list[Packed]]:
    one_each = any(task.alone for task in tasks)
    chunk_bytes = [task.chunk.bytes for task in tasks]
    sizes = itertools.repeat(1, len(tasks)) if one_each else block_sizes(chunk_bytes, cpus)
    ends = itertools.accumulate(sizes)
    for begin, end in itertools.pairwise([0, *ends]):
        yield [_pack(task) for task in tasks[begin:end]]


def _pack(task: Task) -> Packed:
    data = pickle.dumps(task)
    return pa.compress(data, _CODEC, asbytes=True), len(data)


def _unpack(packed: Packed) -> Task:
    data, length = packed
    task: Task = pickle.loads(pa.decompress(data, length, _CODEC))  # noqa: S301 - made by our own driver
    return task


@contextmanager
def cluster() -> Iterator[None]:
    """Connect to the cluster that `RAY_ADDRESS` names, or start a local one until the exit.

    Ray sets the variable for the driver of a Ray job, and KubeRay sets it in its containers. A
    cluster that merely runs on this machine belongs to somebody else: it may lack our code, and may
    end at any time.
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
        # The dashboard takes seconds to start, and would end with this process.
        include_dashboard=False if local else None,
    )
    try:
        if local:
            _warm_up()
        yield
    finally:
        ray.shutdown()


def _warm_up() -> None:
    """Let every worker import what chunks need while the driver submits the tasks.

    The function is nested so that Ray sends its code. For a function of the module a worker would
    import the whole module first, with the garbage collector on, which takes a sixth longer.
    """

    def import_libraries() -> None:
        gc.disable()
        try:
            for name in _WARM_UP_IMPORTS:
                importlib.import_module(name)
        finally:
            gc.enable()

    load = ray.remote(num_cpus=1, max_retries=0)(import_libraries)
    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    for _ in range(int(resources.get("CPU", 1))):
        load.remote()


def forecast_stores(block: Sequence[Packed], shared: Sequence[ObjectRef[bytes]]) -> Iterator[bytes]:
    """Process the chunks of a block in a worker: yield a pickled result, or the exception, of each.

    `shared` holds the reference to the pickled RunSpec. It is a list, so that Ray passes the
    reference itself and not the object.

    The process ends as if it were killed when it cannot be trusted any more: compiled code failed
    without a reason, or no watchdog thread could start. Both happen when memory is out.
    """
    for packed in block:
        task = _unpack(packed)
        try:
            with _deadline(task.deadline_seconds):
                answer: ChunkResult | Exception = forecast_chunk(task, _run_spec(shared[0]))
        except (SystemError, RuntimeError):
            os._exit(1)
        except Exception as error:  # noqa: BLE001 - the driver raises it
            answer = error
        yield pickle.dumps(answer)


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """End this process if the block takes longer. A timer of faulthandler acts under any lock."""
    stream = sys.__stderr__ or sys.stderr
    faulthandler.dump_traceback_later(seconds, exit=True, file=stream)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


_specs: dict[str, RunSpec] = {}


def _run_spec(shared: ObjectRef[bytes]) -> RunSpec:
    name = shared.hex()
    if name not in _specs:
        _specs.clear()
        _specs[name] = pickle.loads(ray.get(shared))  # noqa: S301 - made by our own driver
    return _specs[name]
