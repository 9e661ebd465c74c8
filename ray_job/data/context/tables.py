"""The delivered context: stores, weather and holidays, as the bucket's tables hold them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from ray_job.bucket import keys
from ray_job.bucket.storage import Storage
from ray_job.data import delta
from ray_job.data.context import Context
from ray_job.data.parquet import read_table

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
    pieces = []
    for file in snapshot.files.select(["path", "size"]).to_pylist():
        piece = read_table(storage, f"{root}/{file['path']}", file["size"])
        pieces.append(piece.drop_columns(["delivered_at"]))
    return pa.concat_tables(pieces, promote_options="default") if pieces else None


def _by_store(stores: pa.Table | None) -> dict[str, dict[str, object]]:
    rows = [] if stores is None else stores.to_pylist()
    return {row["store_id"]: _without_nulls(row) for row in rows}


def _without_nulls(row: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in row.items() if value is not None and name != "store_id"}


def _is_marked(mark: object) -> bool:
    return bool(mark) and str(mark).strip().lower() not in ("0", "0.0", "false", "no", "nan")
