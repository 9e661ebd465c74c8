"""The executor on Ray: the only module that imports ray.

A task works through a block of chunks, the last ones through one each, and hands each result over
as soon as it is there (a streaming generator). All tasks are handed to Ray at once: it runs them
as processors get free, and an autoscaler sees what is still to be done. A worker that is killed
takes only its own task with it. What every chunk needs lies once in the object store and is
unpickled once per process.

These are plain tasks and not a Dataset of Ray Data, for what README.md says among the decisions.
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
from ray_job.forecasting.task import Result, RunSpec, Task
from ray_job.plan import Chunk

_RETRIES = 0
"""`execution` tries again what was lost. Without retries, Ray does not repeat without end what was
killed for want of memory either."""
_POLL_SECONDS = 0.1
"""How long results may wait for others, so that those of thousands of tasks are not asked for one
by one."""
_MOST_IN_A_TASK = 8
_SHARE = 1.5
"""Of what is left, a task gets an equal share for each processor, divided by this."""
_CODEC = "zstd"
_LOCAL = "local"
_LIBRARIES = ("ray_job.execution.ray_executor", "sklearn.ensemble")
_PROCESS_BYTES = 450 * 2**20
"""What a worker takes before it reads anything: its libraries and the model."""
_MEMORY_STEP = 256 * 2**20

Packed = tuple[bytes, int]
"""A task, compressed, and how long it is. The names of a night's files are much alike, and the
driver holds all tasks: a million and a half of names are 180 MB as they are and 15 MB packed."""


class RayExecutor:
    """Works on the Ray cluster that this process is connected to; see `cluster`."""

    def run(self, tasks: Sequence[Task], spec: RunSpec) -> Iterator[Result]:
        """Results as they come. A task whose worker or node died, or was ended, gives none.

        Raises MemoryError where Ray ended the worker of the only task for want of memory.
        """
        pending = _submitted(tasks, spec)
        try:
            while pending:
                ready, _ = ray.wait(
                    pending, num_returns=len(pending), timeout=_POLL_SECONDS, fetch_local=False
                )
                for generator in ready:
                    yield from _results(generator, only_one=len(tasks) == 1)
                    if generator.is_finished():  # type: ignore[union-attr]  # typed as a reference
                        pending.remove(generator)
        finally:
            # Whoever does not want the rest, or cannot have it, is not to wait for it either.
            for generator in pending:
                ray.cancel(generator, force=True)


def _results(generator: ObjectRefGenerator, *, only_one: bool) -> Iterator[Result]:
    """What the task has handed over since it was asked last. A loss is the last that it gives.

    A result that lay on a node when that was lost is one, too; its part is there for whoever does
    the chunk again.
    """
    while generator.next_ready():
        try:
            reference = next(generator)
        except StopIteration:
            # The task ended after it was asked whether it had.
            return
        try:
            found = pickle.loads(ray.get(reference))  # noqa: S301 - our own workers'
        except OutOfMemoryError as error:
            told = "the node ran out of memory, and Ray ended the worker"
            if only_one:
                raise MemoryError(told) from error
            emit("task_lost", "WARNING", reason=told)
        except RayError as error:
            emit("task_lost", "WARNING", reason=_told(error))
        else:
            if isinstance(found, Exception):
                raise found
            yield found


def _told(error: RayError) -> str:
    """One line: of what Ray tells the first, of what was raised in the task the last."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1 if isinstance(error, RayTaskError) else 0]


def _submitted(tasks: Sequence[Task], spec: RunSpec) -> list[ObjectRefGenerator]:
    """The Ray tasks, those first that ask for the most memory."""
    shared = ray.put(pickle.dumps(spec))
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    cpus = int(sum(node.get("CPU", 0) for node in nodes))
    # A head works on nothing, and may be larger than any node that does.
    at_work = [node for node in nodes if node.get("CPU", 0)] or nodes
    largest = max(int(node.get("memory", 0)) for node in at_work)
    asking: dict[int, list[Task]] = {}
    for task in tasks:
        asking.setdefault(memory_to_ask(task.chunk, largest), []).append(task)
    forecast = ray.remote(forecast_stores)
    return [
        forecast.options(
            name=f"forecast {spec.run_id}",
            num_cpus=1,
            memory=memory,
            num_returns="streaming",
            max_retries=_RETRIES,
        ).remote(block, [shared])
        for memory, theirs in sorted(asking.items(), reverse=True)
        for block in _blocks(theirs, cpus)
    ]


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


def _blocks(tasks: Sequence[Task], cpus: int) -> Iterator[list[Packed]]:
    apart = any(task.alone for task in tasks)
    chunk_bytes = [task.chunk.bytes for task in tasks]
    sizes = itertools.repeat(1, len(tasks)) if apart else block_sizes(chunk_bytes, cpus)
    ends = itertools.accumulate(sizes)
    for begin, end in itertools.pairwise([0, *ends]):
        yield [_packed(task) for task in tasks[begin:end]]


def _packed(task: Task) -> Packed:
    data = pickle.dumps(task)
    return pa.compress(data, _CODEC, asbytes=True), len(data)


def _unpacked(packed: Packed) -> Task:
    data, length = packed
    task: Task = pickle.loads(pa.decompress(data, length, _CODEC))  # noqa: S301 - our own driver's
    return task


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
    """Let every worker import what chunks need while the driver hands out the tasks.

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


def forecast_stores(block: Sequence[Packed], shared: Sequence[ObjectRef[bytes]]) -> Iterator[bytes]:
    """The chunks of a block, in a worker process: a pickled Result of each, or what it raised,
    which is an answer, too. Only death is a loss.

    `shared` is a list, so that Ray hands over the reference in it and not what it refers to.

    A process that is not to be trusted any more ends as if it were killed: where compiled code
    failed without saying why, or no watchdog could start, as happens when memory is out.
    """
    for packed in block:
        task = _unpacked(packed)
        try:
            with _watched(task.deadline_seconds):
                found: Result | Exception = forecast_chunk(task, _work(shared[0]))
        except (SystemError, RuntimeError):
            os._exit(1)
        except Exception as error:  # noqa: BLE001 - handed to the driver, which raises it
            found = error
        yield pickle.dumps(found)


@contextmanager
def _watched(seconds: float) -> Iterator[None]:
    """End this process if what it does takes longer, wherever it hangs: no lock can stop that."""
    told = sys.__stderr__ or sys.stderr
    faulthandler.dump_traceback_later(seconds, exit=True, file=told)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


_works: dict[str, RunSpec] = {}


def _work(shared: ObjectRef[bytes]) -> RunSpec:
    name = shared.hex()
    if name not in _works:
        _works.clear()
        _works[name] = pickle.loads(ray.get(shared))  # noqa: S301 - our own driver's
    return _works[name]
