"""The rows of a new release, made from the base release and a run's rows. Pure.

The base is the release that the new one continues. Store by store:

- a new good forecast replaces the base's forecast, unless the base's forecast has the same as-of
  and newer inputs (a higher version of the table);
- a store that failed keeps the base's forecast and gets the new reason, unless the base's forecast
  has the same as-of and newer inputs;
- a store outside of the run's scope keeps the base's row as it is.

A forecast that stays from an older as-of is carried: `carried_since` is the first as-of for which
it was carried.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ray_job.bucket.pointer import Pointer
from ray_job.bucket.reasons import COVERED, Outcome, ReasonCode
from ray_job.bucket.receipts import Failure, StoreCounts
from ray_job.bucket.releases import RELEASE_SCHEMA
from ray_job.bucket.sanity import is_late
from ray_job.publishing.row_order import take_rows

_JUDGEMENT = ("outcome", "reason_code", "reason", "attempt")


def base_of(pointer: Pointer, as_of: date) -> str | None:
    """The release to continue for an as-of: its own, else that of the newest earlier as-of."""
    earlier = [
        day for day, name in pointer.dates.items() if day <= as_of and name not in pointer.bad
    ]
    return pointer.dates[max(earlier)] if earlier else None


def merge(
    base: pa.Table | None,
    new: pa.Table,
    *,
    as_of: date,
    expected: Collection[str],
    version: int | None = None,
) -> pa.Table:
    """The rows of the new release, one per store of either, sorted (RELEASE_SCHEMA).

    `version` is that of the table on which `new` was planned; None: as new as any.
    """
    base = RELEASE_SCHEMA.empty_table() if base is None else base.cast(RELEASE_SCHEMA)
    new = new.cast(RELEASE_SCHEMA)
    ids, at_new, at_base = _align(new, base)
    good = _take(pc.is_in(new["outcome"], pa.array(COVERED)), at_new)
    base_has = _take(pc.is_valid(base["as_of"]), at_base)
    base_same = base_has & _take(pc.equal(base["as_of"], pa.scalar(as_of, pa.date32())), at_base)
    # Both versions are known wherever both forecasts are.
    base_newer = base_same & good & (_numbers(base, at_base) > _numbers(new, at_new))
    settled = base_same & (version is not None) & (_numbers(base, at_base) > (version or 0))
    settled &= _take(pc.is_in(base["outcome"], pa.array(COVERED)), at_base)
    from_new = ((at_new >= 0) & (good & ~base_newer)) | (at_base < 0)
    both = pa.concat_tables([new, base])
    merged = take_rows(both, np.where(from_new, at_new, new.num_rows + at_base))

    newly_failed = pa.array((at_new >= 0) & ~good & ~from_new & ~settled)
    judged = take_rows(
        both.select([*_JUDGEMENT, "description"]),
        np.where(at_new >= 0, at_new, new.num_rows + at_base),
    )
    for name in _JUDGEMENT:
        merged = _put(merged, name, pc.if_else(newly_failed, judged[name], merged[name]))
    # The description of a store is always the newest one.
    described = pc.coalesce(judged["description"], merged["description"])
    merged = _put(merged, "description", described)
    merged = _put(
        merged, "expected", pc.is_in(merged["store_id"], pa.array(list(expected), pa.string()))
    )
    return _carry(_with_missing(merged, expected, ids), as_of)


def counts(rows: pa.Table, *, as_of: date, run_id: str) -> StoreCounts:
    """The expected stores of a release by outcome; `late` have sales older than the as-of."""
    counted = ["outcome", "as_of", "run_id", "data_through"]
    rows = rows.select(counted).filter(rows["expected"])
    outcomes = {
        row["values"]: row["counts"] for row in pc.value_counts(rows["outcome"]).to_pylist()
    }
    same = pc.fill_null(pc.equal(rows["as_of"], pa.scalar(as_of, pa.date32())), False)
    is_of_other_run = pc.not_equal(rows["run_id"], run_id)
    return StoreCounts(
        expected=rows.num_rows,
        **{name: outcomes.get(name, 0) for name in Outcome},
        carried=_count(pc.and_(pc.is_valid(rows["as_of"]), pc.invert(same))),
        kept=_count(pc.and_(same, is_of_other_run)),
        late=_count(is_late(rows, as_of)),
    )


def failures(rows: pa.Table) -> list[Failure]:
    """The expected stores that failed, with the as-of of the forecast that they keep."""
    columns = ["store_id", "reason_code", "reason", "attempt", "as_of"]
    has_failed = pc.equal(rows["outcome"], Outcome.FAILED)
    failed = rows.select(columns).filter(pc.and_(has_failed, rows["expected"]))
    return [
        Failure(
            store_id=row["store_id"],
            reason_code=row["reason_code"],
            reason=row["reason"],
            attempt=row["attempt"] or 1,
            last_good_as_of=row["as_of"],
        )
        for row in failed.to_pylist()
    ]


def _align(
    new: pa.Table, base: pa.Table
) -> tuple[pa.Array, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """All store ids, sorted, and the row of each store in both tables; -1 where it has none."""
    both = pa.chunked_array([*new["store_id"].chunks, *base["store_id"].chunks], pa.string())
    ids = pc.unique(both)
    ids = ids.take(pc.sort_indices(ids))
    at_new = pc.fill_null(pc.index_in(ids, new["store_id"].combine_chunks()), -1)
    at_base = pc.fill_null(pc.index_in(ids, base["store_id"].combine_chunks()), -1)
    return ids, at_new.to_numpy().astype(np.int64), at_base.to_numpy().astype(np.int64)


def _take(flags: pa.ChunkedArray, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    values = np.append(pc.fill_null(flags, False).to_numpy(zero_copy_only=False), False)
    taken: npt.NDArray[np.bool_] = values.astype(np.bool_)[rows]
    return taken


def _numbers(table: pa.Table, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    versions = np.append(pc.fill_null(table["table_version"], -1).to_numpy(), -1)
    taken: npt.NDArray[np.int64] = versions.astype(np.int64)[rows]
    return taken


def _with_missing(rows: pa.Table, expected: Collection[str], ids: pa.Array) -> pa.Table:
    """The rows, and one for each expected store that is in neither table (`no_data`)."""
    absent = sorted(set(expected) - set(ids.to_pylist()))
    if not absent:
        return rows
    added = pa.Table.from_pylist(
        [
            {
                "store_id": store,
                "outcome": Outcome.NO_DATA,
                "reason_code": ReasonCode.NO_DATA,
                "reason": "no sales were ever delivered for this store",
                "expected": True,
            }
            for store in absent
        ],
        schema=RELEASE_SCHEMA,
    )
    return pa.concat_tables([rows, added]).sort_by("store_id")


def _carry(rows: pa.Table, as_of: date) -> pa.Table:
    today = pa.scalar(as_of, pa.date32())
    older = pc.fill_null(pc.less(rows["as_of"], today), False)
    since = pc.if_else(
        older, pc.coalesce(rows["carried_since"], today), pa.scalar(None, pa.date32())
    )
    return _put(rows, "carried_since", since)


def _put(table: pa.Table, name: str, array: pa.ChunkedArray) -> pa.Table:
    field = RELEASE_SCHEMA.field(name)
    return table.set_column(table.schema.get_field_index(name), field, array.cast(field.type))


def _count(flags: pa.ChunkedArray) -> int:
    return int(pc.sum(flags).as_py() or 0)
