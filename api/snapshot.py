"""A snapshot: one verified release in memory, asked by store. Immutable, swapped in whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from api.grants import Access
from ray_job.bucket import releases, sanity
from ray_job.bucket.errors import CorruptError
from ray_job.bucket.pointer import Published
from ray_job.bucket.storage import Storage


@dataclass(frozen=True, slots=True)
class Day:
    """One target date of a series: numbers in the unit of the delivered sales."""

    target_date: date
    days_ahead: int
    predicted: float | None
    lower: float | None
    upper: float | None
    method: str | None
    missing: tuple[str, ...] = ()
    usual: float | None = None


@dataclass(frozen=True, slots=True)
class PartRange:
    """Where rows of a store lie."""

    key: str
    sha256: str
    first_row: int
    rows: int


@dataclass(frozen=True, slots=True)
class StoreForecast:
    """A store's row of a release. Without `as_of` there is no forecast of it."""

    store_id: str
    outcome: str
    reason_code: str | None
    reason: str | None
    expected: bool
    as_of: date | None
    generated_at: datetime | None
    data_through: date | None
    run_id: str | None
    model_version: str | None
    carried_since: date | None
    last_target_date: date | None
    items: int
    days: tuple[Day, ...]
    parts: tuple[PartRange, ...]
    description: dict[str, Any]


@dataclass(frozen=True)
class Snapshot:
    """`entry` is the pointer's word on the release, `stores` its rows, sorted by store id."""

    entry: Published
    release: releases.Release
    rows: dict[str, int] = field(repr=False)

    @property
    def name(self) -> str:
        return self.entry.release

    @cached_property
    def ids(self) -> Sequence[str]:
        """Every store id, in order."""
        return tuple(self.rows)

    def store(self, store_id: str) -> StoreForecast | None:
        row = self.rows.get(store_id)
        return None if row is None else self.at([row])[0]

    def at(self, rows: Sequence[int]) -> list[StoreForecast]:
        if len(rows) == 1:
            table = self.release.stores.slice(rows[0], 1)
        else:
            table = self.release.stores.take(pa.array(rows, pa.int64()))
        return [_forecast(row) for row in table.to_pylist()]

    def part_objects(self) -> dict[str, str]:
        """Every part that the release names: key to sha256."""
        parts = self.release.stores.column("parts").combine_chunks().flatten()
        pairs = pa.table({"key": parts.field("part"), "sha256": parts.field("sha256")})
        unique = pairs.group_by(["key", "sha256"]).aggregate([])
        found = dict(zip(unique["key"].to_pylist(), unique["sha256"].to_pylist(), strict=True))
        if len(found) != unique.num_rows:
            raise CorruptError(f"{self.name}: the release names two digests for one part")
        return found

    def seen_by(self, access: Access) -> Sequence[int]:
        """The rows of the stores that somebody may see, in order of store ids."""
        if access.every_store:
            return range(len(self.rows))
        return sorted(self.rows[each] for each in access.stores if each in self.rows)

    def rows_where(
        self, outcome: str | None, expected_as_of: date | None = None, is_older: bool = False
    ) -> Sequence[int]:
        """Rows of that outcome and, with `expected_as_of`, of older forecasts or of no older."""
        stores = self.release.stores
        if outcome is None and expected_as_of is None:
            return range(stores.num_rows)
        wanted = pa.chunked_array([pa.repeat(pa.scalar(value=True), stores.num_rows)])
        if outcome is not None:
            wanted = pc.equal(stores.column("outcome"), outcome)
        if expected_as_of is not None:
            older = pc.fill_null(pc.less(stores.column("as_of"), expected_as_of), fill_value=True)
            wanted = pc.and_(wanted, older if is_older else pc.invert(older))
        rows: list[int] = pc.indices_nonzero(wanted.combine_chunks()).to_pylist()
        return rows

    def count_outcomes(self) -> dict[str, int]:
        counted = pc.value_counts(self.release.stores.column("outcome")).to_pylist()
        return {str(each["values"]): int(each["counts"]) for each in counted}

    def count_older_than(self, as_of: date) -> int:
        """Stores whose forecast is of an older as-of, or who have none."""
        column = self.release.stores.column("as_of")
        return int(pc.sum(pc.fill_null(pc.less(column, as_of), fill_value=True)).as_py() or 0)

    def count_late(self) -> int:
        """Stores whose data end before the release's as-of."""
        late = pc.less(self.release.stores.column("data_through"), self.entry.as_of)
        return int(pc.sum(late).as_py() or 0)

    def silent_rows(self, days: int) -> frozenset[int]:
        """The rows of stores that have sent no sales for so many days before the as-of."""
        silent = sanity.is_silent(self.release.stores, self.entry.as_of, days)
        return frozenset(pc.indices_nonzero(silent.combine_chunks()).to_pylist())

    def night(self, silent_days: int) -> sanity.Night:
        """What the receipt of the run says of drift, of the stores' rows."""
        described = self.release.stores.column("description").to_pylist()
        regions = (_description(text).get("region") for text in described)
        told = {
            store: str(region)
            for store, region in zip(self.ids, regions, strict=True)
            if region is not None
        }
        return sanity.summarise_night(self.release.stores, self.entry.as_of, told, silent_days)


def load(storage: Storage, entry: Published) -> Snapshot:
    """Read and verify a release. Raises NotFoundError, StorageError or CorruptError."""
    return from_release(entry, releases.load(storage, entry.release, entry.sha256))


def from_release(entry: Published, release: releases.Release) -> Snapshot:
    """Raises CorruptError where the release is another one, or holds a store twice."""
    if release.header.release != entry.release:
        raise CorruptError(f"{entry.release}: the object says it is {release.header.release}")
    ids = release.stores.column("store_id").to_pylist()
    rows = dict(zip(ids, range(len(ids)), strict=True))
    if len(rows) != len(ids):
        raise CorruptError(f"{entry.release}: the release holds a store twice")
    return Snapshot(entry, release, rows)


def _forecast(row: dict[str, Any]) -> StoreForecast:
    return StoreForecast(
        store_id=row["store_id"],
        outcome=row["outcome"],
        reason_code=row["reason_code"],
        reason=row["reason"],
        expected=bool(row["expected"]),
        as_of=row["as_of"],
        generated_at=row["generated_at"],
        data_through=row["data_through"],
        run_id=row["run_id"],
        model_version=row["model_version"],
        carried_since=row["carried_since"],
        last_target_date=row["last_target_date"],
        items=row["items"] or 0,
        days=tuple(_days(row)) if row["as_of"] is not None else (),
        parts=tuple(
            PartRange(each["part"], each["sha256"], each["first_row"], each["rows"])
            for each in row["parts"] or ()
        ),
        description=_description(row["description"]),
    )


def _description(text: str | None) -> dict[str, Any]:
    """What JSON does not know (NaN, infinities) is absent."""
    found = json.loads(text, parse_constant=lambda _: None) if text else {}
    return found if isinstance(found, dict) else {}


def _days(row: dict[str, Any]) -> Iterator[Day]:
    dates = row["target_dates"] or ()
    columns = ("predicted", "lower_80", "upper_80", "method", "missing", "usual")
    values = (row[column] or [None] * len(dates) for column in columns)
    for day, predicted, lower, upper, method, missing, usual in zip(dates, *values, strict=True):
        yield Day(
            target_date=day,
            days_ahead=(day - row["as_of"]).days,
            predicted=finite(predicted),
            lower=finite(lower),
            upper=finite(upper),
            method=method,
            missing=tuple(missing.split(",")) if missing else (),
            usual=finite(usual),
        )


def finite(value: float | None) -> float | None:
    """JSON knows neither NaN nor infinity: what is not a number is absent."""
    if value is None or value != value or value in (float("inf"), float("-inf")):  # noqa: PLR0124
        return None
    return value
