"""From the outcomes of chunks to the rows of a release: sums, intervals, references to parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import TypeAdapter

from ray_job.bucket.parts import OUTCOME_SCHEMA, WrittenPart
from ray_job.bucket.reasons import COVERED, Outcome
from ray_job.bucket.releases import PART_REFERENCE, RELEASE_SCHEMA
from ray_job.data.arrays import Floats, matrix
from ray_job.evaluation.sales import SOLD_DECIMALS
from ray_job.publishing.row_order import by_store

Interval = Callable[[Floats, Floats, Floats, Floats], tuple[Floats, Floats]]
"""Computes the bounds of totals from four arrays (stores, days): the three sums of
`intervals.interval_terms`, and the days since the newest sales."""

_TO_JSON = TypeAdapter(Mapping[str, object]).dump_json
SUMS = ("predicted", "spread", "spread_squared", "usual")


@dataclass(frozen=True, slots=True)
class Origin:
    """What all rows of a run have in common, including rows of adopted parts."""

    as_of: date
    target_dates: tuple[date, ...]
    model_version: str
    table_version: int


def combine(chunks: Sequence[WrittenPart]) -> pa.Table:
    """One row for each store, sorted: OUTCOME_SCHEMA, `parts`, `attempt`, `run_id`, `generated_at`.

    The rows of a store that was cut are added up. If one of its chunks failed, the store failed.
    """
    tables = [_with_parts(chunk) for chunk in chunks if chunk.outcomes.num_rows]
    if not tables:
        return _EMPTY
    table = by_store(pa.concat_tables(tables))
    ids = table["store_id"].to_pylist()
    cut_stores = [store for store, count in Counter(ids).items() if count > 1]
    if not cut_stores:
        return table
    is_cut = pc.is_in(table["store_id"], pa.array(cut_stores, pa.string()))
    pieces: dict[str, list[dict[str, object]]] = {store: [] for store in cut_stores}
    for row in table.filter(is_cut).to_pylist():
        pieces[row["store_id"]].append(row)
    merged = pa.Table.from_pylist([_sum(rows) for rows in pieces.values()], schema=table.schema)
    uncut = table.filter(pc.invert(is_cut))
    return by_store(pa.concat_tables([uncut, merged]))


def release_rows(
    outcomes: pa.Table,
    origin: Origin,
    interval: Interval,
    descriptions: Mapping[str, Mapping[str, object]],
) -> pa.Table:
    """Rows of RELEASE_SCHEMA for the stores of `combine`'s table; `expected` is still null.

    The row of a failed store has its reason and no forecast.
    """
    good = pc.is_in(outcomes["outcome"], pa.array(COVERED))
    table = by_store(
        pa.concat_tables(
            [
                _good_rows(outcomes.filter(good), origin, interval),
                _failed_rows(outcomes.filter(pc.invert(good))),
            ]
        )
    )
    described = [
        _TO_JSON(descriptions[store]) if store in descriptions else None
        for store in table["store_id"].to_pylist()
    ]
    return _put(table, "description", pa.array(described, pa.string()))


def sold(outcomes: pa.Table, as_of: date) -> tuple[list[str], npt.NDArray[np.datetime64], Floats]:
    """Past sales: store ids (n), days (d), oldest first, and totals (n, d), NaN where unknown.

    Totals are rounded to SOLD_DECIMALS: the last digits of a sum depend on how a store was cut,
    and sales of the same value must be the same bits each night.
    """
    known = outcomes.filter(pc.greater(pc.list_value_length(outcomes["sold"]), 0))
    if known.num_rows == 0:
        return [], np.array([], dtype="datetime64[D]"), np.empty((0, 0))
    totals = np.round(matrix(known["sold"]), SOLD_DECIMALS)
    days = np.datetime64(as_of, "D") - np.arange(totals.shape[1])[::-1]
    return known["store_id"].to_pylist(), days, totals


def _with_parts(chunk: WrittenPart) -> pa.Table:
    table = chunk.outcomes.cast(OUTCOME_SCHEMA)
    constants = {
        "attempt": chunk.attempt,
        "run_id": chunk.run_id,
        "generated_at": chunk.generated_at,
    }
    table = table.append_column("parts", _references(table, chunk))
    for name, value in constants.items():
        scalar = pa.scalar(value, RELEASE_SCHEMA.field(name).type)
        table = table.append_column(name, pa.repeat(scalar, table.num_rows))
    return table


def _references(table: pa.Table, chunk: WrittenPart) -> pa.Array:
    """For each store the place of its rows in the chunk's part; an empty list without rows."""
    if chunk.part is None:
        return pa.array([[]] * table.num_rows, pa.list_(PART_REFERENCE))
    has_rows = pc.greater(pc.fill_null(table["rows"], 0), 0)
    ends = pc.cumulative_sum(pc.cast(has_rows.combine_chunks(), pa.int32()))
    ranges = table.select(["first_row", "rows"]).filter(has_rows)
    values = {
        "part": pa.repeat(pa.scalar(chunk.part, pa.string()), ranges.num_rows),
        "first_row": ranges["first_row"].combine_chunks(),
        "rows": ranges["rows"].combine_chunks(),
        "sha256": pa.repeat(pa.scalar(chunk.sha256, pa.string()), ranges.num_rows),
    }
    fields = list(PART_REFERENCE)
    places = pa.StructArray.from_arrays(
        [values[field.name].cast(field.type) for field in fields], fields=fields
    )
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends])
    return pa.ListArray.from_arrays(offsets, places)


_EMPTY = _with_parts(
    WrittenPart(OUTCOME_SCHEMA.empty_table(), None, None, "", datetime.fromtimestamp(0, UTC))
)
_WORST_FIRST = (
    Outcome.FAILED,
    Outcome.OK,
    Outcome.FALLBACK,
    Outcome.CLOSED,
    Outcome.NO_DATA,
)
"""A store that was cut gets the first of these outcomes that one of its chunks has."""
_METHODS = ("model", "rule", "similar", "fallback", "ended", "closed")
"""A day of a store that was cut gets the first of these methods that one of its chunks has."""


def _sum(pieces: Sequence[Mapping[str, object]]) -> dict[str, object]:
    worst = min(pieces, key=lambda row: _WORST_FIRST.index(Outcome(str(row["outcome"]))))
    forecast = [row for row in pieces if row["predicted"]]
    newest = max(pieces, key=lambda row: str(row["generated_at"]))
    whole: dict[str, object] = {
        **worst,
        "run_id": newest["run_id"],
        "generated_at": newest["generated_at"],
    }
    if worst["outcome"] in COVERED:
        for name in SUMS:
            whole[name] = _add([row[name] for row in forecast]).tolist()
        whole["method"] = [
            next((method for method in _METHODS if method in day), None)
            for day in (set(ways) for ways in zip(*(_list(r["method"]) for r in forecast)))  # noqa: B905
        ]
        whole["missing"] = [
            ",".join(sorted({name for text in day for name in str(text).split(",") if name}))
            for day in zip(*(_list(row["missing"]) for row in forecast))  # noqa: B905
        ]
        for name in ("last_week", "last_year"):
            whole[name] = [
                _known_sum(day)
                for day in zip(*(_list(row[name]) for row in forecast))  # noqa: B905
            ]
        whole["special"] = [
            _merged_codes([str(text or "") for text in day])
            for day in zip(*(_list(row["special"]) for row in forecast))  # noqa: B905
        ]
    totals = [row["sold"] for row in pieces if row["sold"]]
    whole["sold"] = _add(totals, nan_is_zero=True).tolist() if totals else []
    for name in ("data_through", "known_through"):
        through = [row[name] for row in pieces if row[name] is not None]
        whole[name] = max(through, default=None)  # type: ignore[type-var]
    for name in ("rows", "items", "observations"):
        whole[name] = sum(int(str(row[name] or 0)) for row in pieces)
    whole["parts"] = [part for row in pieces for part in _list(row["parts"])]
    return whole


def _known_sum(values: Sequence[object]) -> float | None:
    known = [float(str(value)) for value in values if value is not None]
    return sum(known) if known else None


def _merged_codes(texts: Sequence[str]) -> str:
    """The codes of a day of a store that was cut. Numbers of series are added up."""
    counts: dict[str, int] = {}
    codes: dict[str, None] = {}
    for text in texts:
        for code in filter(None, text.split(",")):
            name, _, number = code.partition("=")
            if number.isdecimal():
                counts[name] = counts.get(name, 0) + int(number)
            else:
                codes[code] = None
    return ",".join([*codes, *(f"{name}={counts[name]}" for name in sorted(counts))])


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _add(lists: Sequence[object], *, nan_is_zero: bool = False) -> Floats:
    values = np.array(lists, dtype=np.float64)
    if not nan_is_zero:
        return np.asarray(values.sum(axis=0))
    known = ~np.isnan(values)
    return np.where(known.any(axis=0), np.where(known, values, 0.0).sum(axis=0), np.nan)


def _good_rows(outcomes: pa.Table, origin: Origin, interval: Interval) -> pa.Table:
    n, days = outcomes.num_rows, len(origin.target_dates)
    if n == 0:
        return RELEASE_SCHEMA.empty_table()
    predicted = matrix(outcomes["predicted"])
    lower, upper = interval(
        predicted,
        matrix(outcomes["spread"]),
        matrix(outcomes["spread_squared"]),
        _days_since_sales(outcomes, origin),
    )
    constants = {
        "as_of": origin.as_of,
        "model_version": origin.model_version,
        "table_version": origin.table_version,
        "last_target_date": origin.target_dates[-1],
    }
    columns = {
        "target_dates": pa.FixedSizeListArray.from_arrays(
            pa.array(list(origin.target_dates) * n, pa.date32()), days
        ),
        "lower_80": _lists(lower),
        "upper_80": _lists(upper),
    }
    return _table(outcomes, columns, constants)


def _days_since_sales(outcomes: pa.Table, origin: Origin) -> Floats:
    """(stores, days), as the intervals of items count them: the whole horizon for a fallback."""
    through = outcomes["known_through"].to_numpy().astype("datetime64[D]")
    targets = np.array(origin.target_dates, dtype="datetime64[D]")
    days = (targets[None, :] - through[:, None]).astype(np.float64)
    is_fallback = pc.equal(outcomes["outcome"], Outcome.FALLBACK).to_numpy()
    return np.where(is_fallback[:, None], float(len(targets)), days)


def _failed_rows(outcomes: pa.Table) -> pa.Table:
    failures = outcomes.select(["store_id", "outcome", "reason_code", "reason", "attempt"])
    return _table(failures, {}, {})


def _table(
    source: pa.Table, columns: Mapping[str, pa.Array], constants: Mapping[str, object]
) -> pa.Table:
    arrays = []
    for field in RELEASE_SCHEMA:
        if field.name in columns:
            array = columns[field.name]
        elif field.name in constants:
            array = pa.repeat(pa.scalar(constants[field.name], field.type), source.num_rows)
        elif field.name in source.column_names:
            array = source[field.name]
        else:
            array = pa.nulls(source.num_rows, field.type)
        arrays.append(array.cast(field.type))
    return pa.table(arrays, schema=RELEASE_SCHEMA)


def _lists(values: Floats) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def _put(table: pa.Table, name: str, array: pa.Array) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), table.schema.field(name), array)
