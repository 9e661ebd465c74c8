"""StorePartitions: the histories of stores as a Datasource of Ray Data.

A read task reads the partitions of one block of chunks and returns their delivered rows as one
Arrow table. The numbers of rows and bytes and the names of the files come from the plan, so that
Ray Data computes nothing to find them out.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial, update_wrapper

import pyarrow as pa
from ray.data import Datasource
from ray.data.block import BlockMetadata
from ray.data.context import DataContext
from ray.data.datasource import ReadTask

from ray_job.datasets.blocks import Block, PackedTask

_BYTES_PER_ROW = 32
"""The size of a decoded row with a few known-ahead columns."""

ReadBlock = Callable[[Sequence[PackedTask]], pa.Table]


class StorePartitions(Datasource):
    """One read task for each block. `read` makes a block's table from its packed tasks.

    `schema` is that of the tables, None where it depends on the files. `is_folded`: a table may
    have fewer rows than the files, so that Ray Data must count them.
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        read: ReadBlock,
        schema: pa.Schema | None = None,
        *,
        is_folded: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._blocks = blocks
        self._read = read
        self._schema = schema
        self._is_folded = is_folded

    def get_name(self) -> str:
        return "StorePartitions"

    def estimate_inmemory_data_size(self) -> int:
        return sum(block.rows for block in self._blocks) * _BYTES_PER_ROW

    def get_read_tasks(
        self,
        parallelism: int,  # noqa: ARG002 - the blocks follow from the plan
        per_task_row_limit: int | None = None,
        data_context: DataContext | None = None,  # noqa: ARG002 - Ray Data's signature
    ) -> list[ReadTask]:
        # A block of many stores has the names of all their files.
        warnings.filterwarnings("ignore", message="The serialized size of your read function")
        return [
            ReadTask(
                # Ray Data names a large task by its function, and a partial has no name.
                update_wrapper(partial(_read_tables, self._read, block.tasks), _read_tables),
                BlockMetadata(
                    num_rows=None if self._is_folded else block.rows,
                    size_bytes=block.rows * _BYTES_PER_ROW,
                    input_files=block.files,
                    exec_stats=None,
                ),
                schema=self._schema,
                per_task_row_limit=per_task_row_limit,
            )
            for block in self._blocks
        ]


def _read_tables(read: ReadBlock, tasks: Sequence[PackedTask]) -> list[pa.Table]:
    return [read(tasks)]
