"""A snapshot: one verified release in memory. It is immutable."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from api.auth.grants import Access
from api.store.directory import StoreDirectory
from ray_job.bucket import releases, sanity
from ray_job.bucket.errors import CorruptError
from ray_job.bucket.pointer import Published
from ray_job.bucket.reasons import Outcome
from ray_job.bucket.storage import Storage

_TEXTS = ("name", "region")
_WEATHER = "weather_"
_WITHOUT_NAN = json.JSONDecoder(parse_constant=lambda _: None)


@dataclass(frozen=True, slots=True)
class ForecastDay:
    """One target date of a series. Sales are in the unit in which they were delivered."""

    target_date: date
    days_ahead: int
    predicted: float | None
    lower: float | None
    upper: float | None
    method: str | None
    missing: tuple[str, ...] = ()
    last_week: float | None = None
    """What was sold on the newest same weekday that the forecast knows of."""
    last_year: float | None = None
    """What was sold 52 weeks before the day."""
    special: tuple[str, ...] = ()
    """Codes of what is special about the day, as `holiday`, `promo=12` or
    `weather_high:temperature=8.3`."""


@dataclass(frozen=True, slots=True)
class PartRange:
    """A range of rows of one store in the part `key`."""

    key: str
    sha256: str
    first_row: int
    rows: int


@dataclass(frozen=True, slots=True)
class StoreForecast:
    """A store's row of a release. `as_of` is None if the store has no forecast."""

    store_id: str
    outcome: str
    reason_code: str | None
    reason: str | None
    as_of: date | None
    generated_at: datetime | None
    data_through: date | None
    run_id: str | None
    model_version: str | None
    carried_since: date | None
    last_target_date: date | None
    items: int
    days: tuple[ForecastDay, ...]
    parts: tuple[PartRange, ...]
    description: dict[str, Any]
    is_expected: bool = True
    """False for a store that is not waited for any more."""


@dataclass(frozen=True)
class Snapshot:
    """`entry` is the release's entry in the pointer. `rows` has the row number of each store id."""

    entry: Published
    release: releases.Release
    rows: dict[str, int] = field(repr=False)

    @property
    def name(self) -> str:
        return self.entry.release

    @cached_property
    def ids(self) -> Sequence[str]:
        """All store ids, sorted."""
        return tuple(self.rows)

    @cached_property
    def directory(self) -> StoreDirectory:
        """Names and regions. The first use of a large release belongs into a thread."""
        return StoreDirectory.of(self.release.stores, _description)

    def store(self, store_id: str) -> StoreForecast | None:
        row = self.rows.get(store_id)
        return None if row is None else self.forecasts_at([row])[0]

    @cached_property
    def _columns(self) -> dict[str, pa.ChunkedArray]:
        stores = self.release.stores
        return dict(zip(stores.column_names, stores.columns, strict=True))

    def forecasts_at(self, rows: Sequence[int]) -> list[StoreForecast]:
        if len(rows) == 1:
            # Arrow makes a row of a table in twice the time in which it makes the single values.
            row = rows[0]
            return [
                _forecast({name: column[row].as_py() for name, column in self._columns.items()})
            ]
        table = self.release.stores.take(pa.array(rows, pa.int64()))
        return [_forecast(row) for row in table.to_pylist()]

    def part_objects(self) -> dict[str, str]:
        """The key and the sha256 of each part of the release.

        Raises CorruptError if the release names two digests for one part.
        """
        parts = self.release.stores.column("parts").combine_chunks().flatten()
        pairs = pa.table({"key": parts.field("part"), "sha256": parts.field("sha256")})
        unique = pairs.group_by(["key", "sha256"]).aggregate([])
        digests = dict(zip(unique["key"].to_pylist(), unique["sha256"].to_pylist(), strict=True))
        if len(digests) != unique.num_rows:
            raise CorruptError(f"{self.name}: the release names two digests for one part")
        return digests

    def visible_rows(self, access: Access) -> Sequence[int]:
        """The rows of the stores that a caller may see, sorted."""
        if access.every_store:
            return range(len(self.rows))
        return sorted(self.rows[store_id] for store_id in access.stores if store_id in self.rows)

    def rows_where(
        self, outcome: str | None, expected_as_of: date | None = None, is_older: bool = False
    ) -> Sequence[int]:
        """The rows of an outcome (None: of all), sorted.

        With `expected_as_of` only forecasts that are older than it (`is_older`) or that are not.
        """
        stores = self.release.stores
        if outcome is None and expected_as_of is None:
            return range(stores.num_rows)
        selected = pa.chunked_array([pa.repeat(pa.scalar(value=True), stores.num_rows)])
        if outcome is not None:
            selected = pc.equal(stores.column("outcome"), outcome)
        if expected_as_of is not None:
            older = pc.fill_null(pc.less(stores.column("as_of"), expected_as_of), fill_value=True)
            selected = pc.and_(selected, older if is_older else pc.invert(older))
        rows: list[int] = pc.indices_nonzero(selected.combine_chunks()).to_pylist()
        return rows

    def count_outcomes(self) -> dict[str, int]:
        counts = pc.value_counts(self.release.stores.column("outcome")).to_pylist()
        return {str(entry["values"]): int(entry["counts"]) for entry in counts}

    def count_older_than(self, as_of: date) -> int:
        """The number of stores whose forecast has an older as-of, or that have no forecast."""
        column = self.release.stores.column("as_of")
        return int(pc.sum(pc.fill_null(pc.less(column, as_of), fill_value=True)).as_py() or 0)

    def count_late(self) -> int:
        """The number of expected stores whose data end before the release's as-of."""
        stores = self.release.stores
        late = pc.and_(stores["expected"], sanity.is_late(stores, self.entry.as_of))
        return int(pc.sum(late).as_py() or 0)

    def rows_with_problems(self, expected_as_of: date) -> frozenset[int]:
        """The rows of stores that need attention.

        Their forecast is missing or older than `expected_as_of`, or is made without the newest
        sales although the store is open.
        """
        stores = self.release.stores
        older = pc.fill_null(pc.less(stores["as_of"], expected_as_of), fill_value=True)
        owes_sales = pc.and_(
            stores["expected"], pc.not_equal(stores["outcome"], Outcome.CLOSED.value)
        )
        late = pc.and_(
            owes_sales,
            pc.fill_null(pc.less(stores["data_through"], stores["as_of"]), fill_value=True),
        )
        return frozenset(pc.indices_nonzero(pc.or_(older, late).combine_chunks()).to_pylist())

    def silent_rows(self, days: int) -> frozenset[int]:
        """The rows of stores that have sent no sales for `days` days or more before the as-of."""
        silent = sanity.is_silent(self.release.stores, self.entry.as_of, days)
        return frozenset(pc.indices_nonzero(silent.combine_chunks()).to_pylist())

    def night_summary(self, silent_days: int) -> sanity.Night:
        """The figures of drift that the receipt of the run also holds."""
        descriptions = self.release.stores.column("description").to_pylist()
        regions = (_description(text).get("region") for text in descriptions)
        region_of_store = {
            store: str(region)
            for store, region in zip(self.ids, regions, strict=True)
            if region is not None
        }
        return sanity.summarise_night(
            self.release.stores, self.entry.as_of, region_of_store, silent_days
        )


def load(storage: Storage, entry: Published) -> Snapshot:
    """Read and verify a release. Raises NotFoundError, StorageError or CorruptError."""
    return from_release(entry, releases.load(storage, entry.release, entry.sha256))


def from_release(entry: Published, release: releases.Release) -> Snapshot:
    """Raises CorruptError if the release has another name or as-of, or holds a store twice."""
    if release.header.release != entry.release:
        raise CorruptError(f"{entry.release}: the object is release {release.header.release}")
    if release.header.as_of != entry.as_of:
        raise CorruptError(f"{entry.release}: the as-of is {release.header.as_of}")
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
            PartRange(part["part"], part["sha256"], part["first_row"], part["rows"])
            for part in row["parts"] or ()
        ),
        description=_description(row["description"]),
        is_expected=row["expected"] is not False,
    )


def _description(text: str | None) -> dict[str, Any]:
    """NaN and infinities become None, because JSON has no such numbers.

    `name` and `region` are text, also where they were delivered as numbers.
    """
    fields = _WITHOUT_NAN.decode(text) if text else {}
    if not isinstance(fields, dict):
        return {}
    for name in _TEXTS:
        value = fields.get(name)
        if value is not None and not isinstance(value, str):
            fields[name] = str(value)
    return fields


def _days(row: dict[str, Any]) -> Iterator[ForecastDay]:
    dates = row["target_dates"] or ()
    columns = (
        *("predicted", "lower_80", "upper_80", "method", "missing"),
        *("last_week", "last_year", "special"),
    )
    values = (row.get(column) or [None] * len(dates) for column in columns)
    for day, predicted, lower, upper, method, missing, last_week, last_year, special in zip(
        dates, *values, strict=True
    ):
        yield ForecastDay(
            target_date=day,
            days_ahead=(day - row["as_of"]).days,
            predicted=finite(predicted),
            lower=finite(lower),
            upper=finite(upper),
            method=method,
            missing=tuple(missing.split(",")) if missing else (),
            last_week=finite(last_week),
            last_year=finite(last_year),
            special=tuple(_special(special, row["items"] or 0)) if special else (),
        )


def _special(text: str, items: int) -> Iterator[str]:
    """The codes of a day. A flag that all series of the store have loses their number."""
    for code in text.split(","):
        name, _, number = code.partition("=")
        yield name if number == str(items) and not name.startswith(_WEATHER) else code


def finite(value: float | None) -> float | None:
    """The number, or None for NaN and infinity: JSON has no such numbers."""
    if value is None or value != value or value in (float("inf"), float("-inf")):  # noqa: PLR0124
        return None
    return value
