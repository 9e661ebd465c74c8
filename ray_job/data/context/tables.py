"""The delivered context: stores, weather and holidays, as the bucket's tables hold them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_job.bucket import keys
from ray_job.bucket.errors import InputError
from ray_job.bucket.storage import Storage
from ray_job.data import delta
from ray_job.data.context import Context
from ray_job.data.parquet import conform, first_line, read_table
from ray_job.data.partition import OLDEST
from ray_job.data.table_columns import CONTEXT_KEYS, check_context, check_context_rows

CLOSED_FOR_GOOD = "closed_for_good"
"""The column of the stores table that marks stores which nobody expects any more."""


@dataclass(frozen=True, slots=True)
class ContextTables:
    """The tables of the context; None for a kind of which nothing was delivered."""

    stores: pa.Table | None
    weather: pa.Table | None
    holidays: pa.Table | None

    def between(self, first_day: date, last_day: date, country: str) -> Context:
        """The context of the days from `first_day` to `last_day`, both included."""
        return Context.build(
            self.stores,
            self.weather,
            self.holidays,
            country=country,
            first_day=first_day,
            last_day=last_day,
        )

    @property
    def descriptions(self) -> dict[str, dict[str, object]]:
        """The columns of the stores table, by store; values that are null are left out."""
        return _by_store(self.stores)

    def descriptions_of(self, stores: Collection[str]) -> dict[str, dict[str, object]]:
        """`descriptions` of some stores; those that the table does not have are left out."""
        if self.stores is None:
            return {}
        wanted = pa.array(list(stores), pa.string())
        return _by_store(self.stores.filter(pc.is_in(self.stores["store_id"], wanted)))

    @property
    def regions(self) -> dict[str, str | None]:
        """The region of each store of the stores table; empty if the table has no regions."""
        if self.stores is None or "region" not in self.stores.column_names:
            return {}
        return dict(
            zip(self.stores["store_id"].to_pylist(), self.stores["region"].to_pylist(), strict=True)
        )

    def expected(self, partitions: Sequence[str]) -> set[str]:
        """The stores that should have a forecast.

        These are the stores of the stores table that are not closed for good; without a stores
        table, all `partitions`.
        """
        if self.stores is None:
            return set(partitions)
        ids = self.stores["store_id"].to_pylist()
        if CLOSED_FOR_GOOD not in self.stores.column_names:
            return set(ids)
        marks = self.stores[CLOSED_FOR_GOOD].to_pylist()
        return {store for store, mark in zip(ids, marks, strict=True) if not _is_marked(mark)}

    def known(self, partitions: Sequence[str]) -> set[str]:
        """The expected stores, and those that are closed for good."""
        return set(partitions if self.stores is None else self.stores["store_id"].to_pylist())


def open_context(storage: Storage) -> ContextTables:
    return ContextTables(
        **{kind: _context_table(storage, kind) for kind in ("stores", "weather", "holidays")}
    )


def _context_table(storage: Storage, kind: str) -> pa.Table | None:
    root = keys.context(kind)
    snapshot = delta.open_snapshot(storage, root)
    if snapshot is None:
        return None
    check_context(kind, snapshot.columns, snapshot.features.partition_columns)
    batches: list[pa.RecordBatch] = []
    schema = _with_days(snapshot.columns)
    for file in snapshot.files.select(["path", "size"]).to_pylist():
        key = f"{root}/{file['path']}"
        try:
            rows = read_table(storage, key, file["size"]).to_batches()
            batches += [conform(batch, schema) for batch in rows]
        except pa.ArrowException as error:
            raise InputError(f"{key}: {first_line(error)}") from error
    if not batches:
        return None
    table = pa.Table.from_batches(batches, schema)
    check_context_rows(kind, table)
    return _newest(kind, table)


def _with_days(columns: pa.Schema) -> pa.Schema:
    """Others may write a day as a timestamp, or as text."""
    place = columns.get_field_index("date")
    return columns if place < 0 else columns.set(place, pa.field("date", pa.date32()))


def _newest(kind: str, rows: pa.Table) -> pa.Table:
    """Of each key the row that was delivered last: others may append one that corrects another."""
    if "delivered_at" not in rows.column_names:
        return rows
    key = CONTEXT_KEYS[kind]
    if len(rows.group_by(key).aggregate([])) < len(rows):
        times = rows["delivered_at"].cast(pa.timestamp("us"), safe=False).cast(pa.int64())
        order = np.argsort(pc.fill_null(times, OLDEST).to_numpy(), kind="stable")
        identities = list(zip(*(rows[name].to_pylist() for name in key), strict=True))
        newest = {identities[place]: place for place in order.tolist()}
        rows = rows.take(sorted(newest.values()))
    return rows.drop_columns(["delivered_at"])


def _by_store(stores: pa.Table | None) -> dict[str, dict[str, object]]:
    rows = [] if stores is None else stores.to_pylist()
    return {row["store_id"]: _without_nulls(row) for row in rows}


def _without_nulls(row: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in row.items() if value is not None and name != "store_id"}


def _is_marked(mark: object) -> bool:
    return bool(mark) and str(mark).strip().lower() not in ("0", "0.0", "false", "no", "nan")
