"""Histories as a Dataset for engineers: one row for each observation."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache, partial

import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.data import Dataset

from ray_job import plan
from ray_job.bucket.errors import InputError
from ray_job.bucket.storage import Storage, open_bucket
from ray_job.data.histories import Histories, open_histories
from ray_job.data.history_block import StoreHistory
from ray_job.data.observations import observation_schema, observations
from ray_job.data.packs.index import PackIndex, readable_index
from ray_job.data.packs.packed_rows import PackedRows
from ray_job.data.packs.reading import ChunkFiles, delivered_before, read_packed
from ray_job.data.parquet import row_groups
from ray_job.data.partition import REQUIRED, Columns, FileRows, read_store
from ray_job.data.requests import map_in_order
from ray_job.datasets.blocks import PackedTask, make_blocks
from ray_job.datasets.store_partitions import StorePartitions
from ray_job.forecasting.store_reading import paths_by_store
from ray_job.forecasting.task import Task
from ray_job.plan import Basis, Chunk
from ray_job.settings import Plan

_TABLE_COLUMNS = {*REQUIRED, "store_id"}
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class _HistorySelection:
    """What a read task needs beside its chunks."""

    bucket: str
    columns: tuple[str, ...]
    texts: tuple[str, ...]
    first_day: date
    last_day: date
    packs: PackIndex


def histories_dataset(
    bucket: str,
    stores: Sequence[str] | None,
    days: int | None,
    columns: Sequence[str] | None,
) -> Dataset:
    """See `ray_job.storecast.histories`."""
    storage = open_bucket(bucket)
    table = open_histories(storage)
    selection = _select(storage, table, days, columns)
    chunks = _chunks(storage, table, selection, stores)
    if not ray.is_initialized():
        ray.init(logging_level=logging.ERROR)
    cpus = int(ray.cluster_resources().get("CPU", 1))  # type: ignore[no-untyped-call]
    blocks = list(make_blocks([Task(chunk) for chunk in chunks], cpus))
    schema = observation_schema(selection.columns, selection.texts)
    if not blocks:
        empty: Dataset = ray.data.from_arrow(schema.empty_table())
        return empty
    datasource = StorePartitions(
        blocks, partial(_read_observations, selection=selection), schema, is_folded=True
    )
    dataset: Dataset = ray.data.read_datasource(datasource, override_num_blocks=len(blocks))
    # An error of a read task is raised as it is, with its sentence, and not within one of Ray's.
    dataset.context.raise_original_map_exception = True
    return dataset


def _select(
    storage: Storage, table: Histories, days: int | None, columns: Sequence[str] | None
) -> _HistorySelection:
    further = [name for name in table.columns.names if name not in _TABLE_COLUMNS]
    names = further if columns is None else list(columns)
    for name in names:
        if name not in further:
            raise InputError(
                f"{storage.url}: the histories have no column {name!r}; they have"
                f" {', '.join(further) or 'no further columns'}"
            )
    last_day = table.newest_sales
    if last_day is None:
        raise InputError(f"{storage.url}: there are no sales in the histories")
    if days is not None and days < 1:
        raise InputError(f"days = {days}: give at least one day")
    if days is None:
        oldest: date | None = pc.min(table.files["first_date"]).as_py()
        first_day = last_day if oldest is None else oldest
    else:
        first_day = last_day - timedelta(days=days - 1)
    return _HistorySelection(
        storage.url,
        tuple(names),
        tuple(table.categorical(names)),
        first_day,
        last_day,
        readable_index(storage),
    )


def _chunks(
    storage: Storage, table: Histories, selection: _HistorySelection, stores: Sequence[str] | None
) -> list[Chunk]:
    if stores is not None and (unknown := sorted(set(stores) - set(table.store_ids))):
        raise InputError(f"{storage.url}: store {unknown[0]!r} has no history")
    basis = Basis(
        as_of=selection.last_day,
        horizon=0,
        lookback_days=(selection.last_day - selection.first_day).days + 1,
        model="",
        context="",
        settings="",
        code="",
    )
    files = plan.relevant(table.files, basis, stores)
    oversized = plan.oversized(files, Plan())
    groups = {store: row_groups(storage, path) for store, path in oversized.items()}
    return plan.make(files, basis, Plan(), groups)


def _read_observations(packed: Sequence[PackedTask], selection: _HistorySelection) -> pa.Table:
    """The folded rows of the chunks of a block. Raises what is wrong with a store's files."""
    storage = _open_storage(selection.bucket)
    columns = Columns(selection.columns, dict.fromkeys(selection.texts, ()))
    tables = []
    for task in packed:
        chunk = task.unpack().chunk
        histories, packed_rows = _read_histories(storage, chunk, columns, selection)
        tables.append(
            observations(
                histories,
                selection.columns,
                selection.texts,
                selection.first_day,
                selection.last_day,
                packed_rows,
            )
        )
    return pa.concat_tables(tables)


def _read_histories(
    storage: Storage, chunk: Chunk, columns: Columns, selection: _HistorySelection
) -> tuple[list[StoreHistory], PackedRows | None]:
    """The rows of files by store, and those that packs have. Raises what is wrong with a file."""

    def read(paths: Mapping[str, Sequence[str]]) -> dict[str, Sequence[FileRows]]:
        answers = map_in_order(
            storage,
            lambda of_store: read_store(storage, of_store, columns, chunk.items),
            paths.values(),
        )
        return dict(zip(paths, answers, strict=True))

    packed, left = None, chunk.files
    if selection.packs.packs:
        first, last = ((day - _EPOCH).days for day in (selection.first_day, selection.last_day))
        files = ChunkFiles(chunk.files, first, last, chunk.items)
        answer = read_packed(storage, selection.packs, files, columns)
        packed, left = answer.rows, answer.left
    histories = read(paths_by_store(left))
    if packed is not None:
        unordered = delivered_before(packed, histories)
        packed = packed.without(unordered)
        whole = paths_by_store(chunk.files)
        histories |= read({store: whole[store] for store in unordered})
        histories |= dict.fromkeys(packed.stores - histories.keys(), ())
    return sorted(histories.items()), packed


@lru_cache(maxsize=4)
def _open_storage(url: str) -> Storage:
    return open_bucket(url)
