"""Blocks: how the chunks of a run are distributed over the read tasks of a Dataset. Pure."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from ray_job.forecasting.task import Task
from ray_job.plan import NO_FILE, Chunk

_MAX_CHUNKS = 16
_BLOCKS_PER_CPU = 1.5
"""A block gets what is left, divided by the number of processors and by this."""
_CODEC = "zstd"
_PROCESS_BYTES = 450 * 2**20
"""The memory of a worker before it reads anything: its libraries and the model."""
_MEMORY_STEP = 256 * 2**20


@dataclass(frozen=True, slots=True)
class PackedTask:
    """A compressed task; `length` is its size in bytes before compression.

    The driver holds all tasks, and their file names are similar: 1.5 million names take 180 MB as
    they are, and 15 MB compressed.
    """

    data: bytes
    length: int

    @classmethod
    def pack(cls, task: Task) -> PackedTask:
        data = pickle.dumps(task)
        return cls(pa.compress(data, _CODEC, asbytes=True), len(data))

    def unpack(self) -> Task:
        data = pa.decompress(self.data, self.length, _CODEC)
        task: Task = pickle.loads(data)  # noqa: S301 - made by `pack`
        return task


@dataclass(frozen=True, slots=True)
class Block:
    """The chunks of one read task. `rows` and `bytes` are those of the chunks' files."""

    tasks: tuple[PackedTask, ...]
    rows: int
    bytes: int
    files: tuple[str, ...]


def make_blocks(tasks: Sequence[Task], cpus: int) -> Iterator[Block]:
    """The blocks of tasks, in the order of the tasks; one task each if one of them is `alone`."""
    sizes: Iterator[int] = block_sizes([task.chunk.bytes for task in tasks], cpus)
    if any(task.alone for task in tasks):
        sizes = itertools.repeat(1, len(tasks))
    ends = itertools.accumulate(sizes)
    for begin, end in itertools.pairwise([0, *ends]):
        members = tasks[begin:end]
        yield Block(
            tasks=tuple(PackedTask.pack(task) for task in members),
            rows=sum(task.chunk.rows for task in members),
            bytes=sum(task.chunk.bytes for task in members),
            files=tuple(itertools.chain.from_iterable(_paths(task.chunk) for task in members)),
        )


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
        candidates = chunk_bytes[begin : begin + _MAX_CHUNKS]
        ends = list(itertools.accumulate(candidates))
        # Up to the chunk in whose middle the block is full, and always one.
        middles = (end - size / 2 for end, size in zip(ends, candidates, strict=True))
        count = max(1, sum(middle <= block_bytes for middle in middles))
        yield count
        left -= ends[count - 1]
        begin += count


def memory_request(chunk: Chunk, largest_node: int) -> int:
    """The memory in bytes that the task of a chunk reserves, in steps of 256 MiB.

    A chunk that fits on no node requests the whole largest node. It may be killed there, which is
    an outcome; a request that no node can fulfil would wait for ever.
    """
    steps = -(-(_PROCESS_BYTES + chunk.memory_bytes) // _MEMORY_STEP)
    return min(steps * _MEMORY_STEP, largest_node)


def _paths(chunk: Chunk) -> list[str]:
    return [path for path in chunk.files["path"].to_pylist() if path != NO_FILE]
