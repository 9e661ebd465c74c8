"""What a run reads before it plans: the table's files, the context, the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ray_job import partition, plan, provenance, registry, tables
from ray_job.bucket import keys
from ray_job.bucket.errors import CorruptError, InputError, NotFoundError, StorageError
from ray_job.bucket.freshness import Schedule
from ray_job.bucket.storage import Storage
from ray_job.context import Context
from ray_job.ingest import manifest
from ray_job.settings import Settings

_DAY = timedelta(days=1)
CLOSED_FOR_GOOD = "closed_for_good"
"""The column of the stores table that marks stores nobody expects any more."""


@dataclass(frozen=True, slots=True)
class Histories:
    """A snapshot of the table of histories; `files` is of plan.FILES_SCHEMA."""

    version: int
    files: pa.Table
    columns: pa.Schema
    newest_sales: date | None

    @property
    def store_ids(self) -> list[str]:
        ids: list[str] = pc.unique(self.files["store_id"]).to_pylist()
        return ids

    def categorical(self, names: Sequence[str]) -> list[str]:
        """Which of the columns hold text."""
        there = [self.columns.field(name) for name in names if name in self.columns.names]
        return [field.name for field in there if pa.types.is_string(field.type)]


def open_histories(storage: Storage) -> Histories:
    """The newest snapshot.

    Raises InputError where nothing was ingested yet, and where the table lacks a column that every
    history has, so that none could be read.
    """
    table = tables.open_snapshot(storage, keys.BATCH_DATA)
    if table is None or table.files.num_rows == 0:
        raise InputError(
            f"{storage.url}: there are no histories; `storecast ingest` brings them in"
        )
    for name in partition.REQUIRED:
        if name not in table.columns.names:
            raise InputError(f"{storage.url}/{keys.BATCH_DATA}: the table has no column {name!r}")
    listed = table.files
    paths = tables.partition_keys(listed["path"])
    files = pa.table(
        [
            listed["store_id"],
            paths,
            listed["size"],
            listed["rows"],
            listed["first_date"],
            listed["last_date"],
        ],
        schema=plan.FILES_SCHEMA,
    )
    return Histories(
        version=table.version,
        files=files,
        columns=table.columns,
        newest_sales=manifest.newest_sales(storage, table.transactions.get(tables.APP_ID, 0)),
    )


@dataclass(frozen=True, slots=True)
class ContextTables:
    """The delivered context, None where nothing was delivered."""

    stores: pa.Table | None
    weather: pa.Table | None
    holidays: pa.Table | None

    def between(self, first_day: date, last_day: date, country: str) -> Context:
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
        """What the stores table tells of each store."""
        rows = [] if self.stores is None else self.stores.to_pylist()
        return {row["store_id"]: _told(row) for row in rows}

    @property
    def regions(self) -> dict[str, str | None]:
        """The region of each store of the stores table; none where it names none."""
        if self.stores is None or "region" not in self.stores.column_names:
            return {}
        return dict(
            zip(self.stores["store_id"].to_pylist(), self.stores["region"].to_pylist(), strict=True)
        )

    def expected(self, partitions: Sequence[str]) -> set[str]:
        """The stores of the stores table that are not closed for good, else every partition."""
        if self.stores is None:
            return set(partitions)
        ids = self.stores["store_id"].to_pylist()
        if CLOSED_FOR_GOOD not in self.stores.column_names:
            return set(ids)
        marks = self.stores[CLOSED_FOR_GOOD].to_pylist()
        return {store for store, mark in zip(ids, marks, strict=True) if not _is_marked(mark)}

    def known(self, partitions: Sequence[str]) -> set[str]:
        """The expected stores and those that are marked as closed for good."""
        return set(partitions if self.stores is None else self.stores["store_id"].to_pylist())


def open_context(storage: Storage) -> ContextTables:
    return ContextTables(
        **{kind: _context_table(storage, kind) for kind in ("stores", "weather", "holidays")}
    )


def resolve_as_of(
    given: date | None, histories: Histories, schedule: Schedule, now: datetime
) -> date:
    """The as-of of a run: `given`, else the newest date that has sales, never after yesterday.

    Raises InputError for a given as-of of today or later.
    """
    yesterday = schedule.today(now) - _DAY
    if given is not None:
        if given > yesterday:
            raise InputError(f"--as-of {given}: the last date that can be used is {yesterday}")
        return given
    if histories.newest_sales is None:
        raise InputError("there are no sales in the histories; `storecast ingest` brings them in")
    return min(histories.newest_sales, yesterday)


def basis(
    settings: Settings, as_of: date, artifact: registry.Artifact, context: Context, reach: int
) -> plan.Basis:
    """What all predictions of a run depend on; `reach` is the model's."""
    return plan.Basis(
        as_of=as_of,
        horizon=settings.horizon,
        lookback_days=settings.lookback_days,
        model=artifact.sha256,
        context=context.digest,
        settings=provenance.settings_digest(settings),
        code=provenance.code_digest(),
        reach=reach,
    )


def make_plan(
    storage: Storage,
    settings: Settings,
    histories: Histories,
    on: plan.Basis,
    stores: Sequence[str] | None,
) -> list[plan.Chunk]:
    """The chunks of a run. Raises InputError for a store without a partition."""
    if stores is not None:
        unknown = sorted(set(stores) - set(histories.store_ids))
        if unknown:
            raise InputError(f"--stores: store {unknown[0]!r} has no history")
    files = plan.relevant(histories.files, on, stores)
    big = plan.oversized(files, settings.plan)
    groups = {store: _row_groups(storage, path) for store, path in big.items()}
    return plan.make(files, on, settings.plan, groups)


def _row_groups(storage: Storage, path: str) -> list[plan.RowGroup]:
    """None where the file cannot be read: whoever works on the store's one chunk says why."""
    try:
        return partition.row_groups(storage, path)
    except (CorruptError, NotFoundError, StorageError):
        return []


def _context_table(storage: Storage, kind: str) -> pa.Table | None:
    root = keys.context(kind)
    table = tables.open_table(storage, root)
    if table is None:
        return None
    pieces = []
    for path in tables.list_files(table)["path"].to_pylist():
        key = f"{root}/{path}"
        try:
            with pq.ParquetFile(pa.BufferReader(storage.read(key))) as file:
                piece = file.read(use_threads=False)
        except pa.ArrowException as error:
            raise CorruptError(f"{key}: the file cannot be read: {error}") from error
        pieces.append(piece.drop_columns(["delivered_at"]))
    return pa.concat_tables(pieces, promote_options="default") if pieces else None


def _told(row: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in row.items() if value is not None and name != "store_id"}


def _is_marked(mark: object) -> bool:
    return bool(mark) and str(mark).strip().lower() not in ("0", "0.0", "false", "no", "nan")
