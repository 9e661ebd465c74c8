"""Raw files that replace earlier rows: files of the histories are rewritten without these rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import chain

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from ray_job.data.delta import DataFile, list_files, logged_key
from ray_job.data.manifest import KnownFile
from ray_job.data.parquet import read_batches
from ray_job.data.partition import OLDEST
from ray_job.ingest.reading.batch import LoadedGroup
from ray_job.ingest.reading.groups import FILE
from ray_job.ingest.reading.workspace import Workspace
from ray_job.ingest.writing.partitions import EncodedFile, PartitionWriter
from ray_job.ingest.writing.pieces import Piece
from ray_job.ingest.writing.sales_rows import replaced_dates
from ray_job.progress import Stage

_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class ReplacedDays:
    """The replaced days of a store (since 1970, sorted), and the delivery of each replacement.

    `delivered` is in microseconds since 1970.
    """

    days: npt.NDArray[np.int64]
    delivered: npt.NDArray[np.int64]

    def stays(self, rows: pa.RecordBatch) -> npt.NDArray[np.bool_]:
        """Flags of the rows that stay: rows of other days, and rows that were delivered later."""
        days = _integers(rows.column("date").cast(pa.int32()))
        delivered = _delivered(rows)
        indices = np.minimum(np.searchsorted(self.days, days), len(self.days) - 1)
        flags: npt.NDArray[np.bool_] = (self.days[indices] != days) | (
            delivered >= self.delivered[indices]
        )
        return flags


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """Rows that an earlier content of a raw file gave: they are taken out.

    `delivered` are the times of its deliveries in microseconds since 1970; `first` and `last` are
    the days of the new content.
    """

    delivered: tuple[int, ...]
    first: date
    last: date

    def stays(self, rows: pa.RecordBatch) -> npt.NDArray[np.bool_]:
        days = _integers(rows.column("date").cast(pa.int32()))
        delivered = _delivered(rows)
        is_day = (days >= (self.first - _EPOCH).days) & (days <= (self.last - _EPOCH).days)
        flags: npt.NDArray[np.bool_] = ~(is_day & np.isin(delivered, self.delivered))
        return flags


@dataclass(frozen=True, slots=True)
class Removal:
    """All rows that an ingest takes out: replaced days by store, withdrawn rows of any store."""

    replaced: dict[str, ReplacedDays]
    withdrawals: Sequence[Withdrawal]

    def stays(self, store_id: str, rows: pa.RecordBatch) -> npt.NDArray[np.bool_]:
        """Flags of the rows of a store that stay."""
        flags = np.ones(rows.num_rows, np.bool_)
        if store_id in self.replaced:
            flags &= self.replaced[store_id].stays(rows)
        for withdrawal in self.withdrawals:
            flags &= withdrawal.stays(rows)
        return flags

    def may_concern(self, files: pa.Table) -> pa.Table:
        """The files of the histories that may hold such rows."""
        stores = pc.is_in(files["store_id"], pa.array(self.replaced, pa.string()))
        for withdrawal in self.withdrawals:
            overlap = pc.and_(
                pc.less_equal(files["first_date"], withdrawal.last),
                pc.greater_equal(files["last_date"], withdrawal.first),
            )
            stores = pc.or_(stores, pc.fill_null(overlap, fill_value=True))
        return files.filter(stores)


def find_withdrawals(
    workspace: Workspace, groups: Sequence[LoadedGroup], known: Mapping[str, KnownFile]
) -> list[Withdrawal]:
    """What earlier contents of the files gave, where rows are transactions.

    `known` are the files of earlier ingests by key. A file of daily rows withdraws nothing, since
    its rows replace earlier ones by themselves.
    """
    withdrawals = []
    for group in groups:
        files = group.files
        if files.settings.sales.rows != "transactions":
            continue
        for number, file in enumerate(files.files, files.first):
            earlier = [known[key] for key in (file.key, *file.replaced_keys) if key in known]
            delivered = sorted({time for each in earlier for time in each.delivered})
            if not delivered:
                continue
            [(first, last)] = workspace.run(
                f"SELECT min(date), max(date) FROM {files.table} WHERE {FILE} = ?",  # noqa: S608
                [number],
            )
            if first is not None:
                withdrawals.append(Withdrawal(tuple(delivered), first, last))
    return withdrawals


def replaced_days(workspace: Workspace, groups: Sequence[LoadedGroup]) -> dict[str, ReplacedDays]:
    """The days that the files of an ingest replace, by store.

    Needs the table `deliveries` in DuckDB. Ends the stream of `sorted_sales`.
    """
    query = replaced_dates(groups)
    if query is None:
        return {}
    table = workspace.connection.sql(f"{query} ORDER BY store_id, date").to_arrow_table()
    stores = table["store_id"].combine_chunks()
    days = _integers(table["date"].cast(pa.int32()))
    delivered = _integers(table["__delivered"])
    encoded = stores.dictionary_encode()
    indices = _integers(encoded.indices)
    bounds = np.searchsorted(indices, np.arange(len(encoded.dictionary) + 1))
    return {
        store: ReplacedDays(days[start:end], delivered[start:end])
        for store, start, end in zip(
            encoded.dictionary.to_pylist(), bounds[:-1], bounds[1:], strict=True
        )
    }


def rewrite_files(
    writer: PartitionWriter,
    table: DeltaTable,
    removal: Removal,
    file_name: str,
    stage: Stage,
) -> tuple[list[DataFile], list[DataFile]]:
    """Rewrite the files of the table that hold rows of the removal, without these rows.

    Returns the files that a commit has to add, and those that it has to remove. A file of which no
    row stays is removed only.
    """
    removed: list[DataFile] = []
    by_store: dict[str, list[DataFile]] = defaultdict(list)
    for row in removal.may_concern(list_files(table)).to_pylist():
        by_store[row["store_id"]].append(DataFile(**row))

    def rewritten() -> Iterator[EncodedFile]:
        for store, files in by_store.items():
            for number, file in enumerate(files):
                if not _has_removed_rows(writer, file, removal):
                    continue
                removed.append(file)
                pieces = _staying_pieces(writer, file, removal)
                first = next(pieces, None)
                if first is not None:
                    yield writer.encode(store, chain([first], pieces), f"{file_name}-{number}")

    added = writer.send(rewritten(), stage)
    return added, removed


def _has_removed_rows(writer: PartitionWriter, file: DataFile, removal: Removal) -> bool:
    return any(not removal.stays(str(file.store_id), batch).all() for batch in _read(writer, file))


def _staying_pieces(writer: PartitionWriter, file: DataFile, removal: Removal) -> Iterator[Piece]:
    for batch in _read(writer, file):
        staying = batch.filter(pa.array(removal.stays(str(file.store_id), batch)))
        if staying.num_rows:
            days = _integers(staying.column("date").cast(pa.int32()))
            yield Piece(str(file.store_id), staying, int(days.min()), int(days.max()))


def _read(writer: PartitionWriter, file: DataFile) -> Iterator[pa.RecordBatch]:
    return read_batches(writer.storage, logged_key(file.path), file.size, writer.stored)


def _delivered(rows: pa.RecordBatch) -> npt.NDArray[np.int64]:
    """When each row was delivered, in microseconds since 1970; another writer may not have said."""
    return _integers(pc.fill_null(rows.column("delivered_at").cast(pa.int64()), OLDEST))


def _integers(values: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """The numbers; another writer's row without a date is of a day long ago."""
    known = pc.fill_null(values, -(2**31)) if values.null_count else values
    return np.asarray(known.to_numpy(zero_copy_only=False), dtype=np.int64)
