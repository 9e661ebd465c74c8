"""Entries that have a range of a store's items: those of the same files become one entry again.

A range counts only together with its neighbours: an entry of all of them stands for its files only
if they cover every item that is asked for, without a gap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ray_job.data.packs.packed_rows import PackedRows
from ray_job.data.packs.sections import COLUMN_PREFIX, ENTRY_FIELDS, PART_FIELDS
from ray_job.data.packs.values import unpack_numbers
from ray_job.data.store_days import StoreDays
from ray_job.plan import ItemRange

Ints = npt.NDArray[np.int64]

FIRST, END, DELIVERED_DAYS, SOLD_DAYS = (field.name for field in PART_FIELDS)
EVERYTHING = ItemRange()
_OF_FILES = ("store_id", "paths", "sizes", "first_days", "last_days")


def is_part(batch: pa.RecordBatch) -> bool:
    return FIRST in batch.schema.names


def joined_parts(batches: Sequence[pa.RecordBatch], items: ItemRange) -> Iterator[pa.RecordBatch]:
    """Each batch of whole entries, and one for each store and files whose parts cover `items`.

    Parts that leave a gap are left out. The columns of a joined entry are plain numbers and texts.
    """
    groups: dict[tuple[str, tuple[str, ...]], list[pa.RecordBatch]] = {}
    for batch in batches:
        if not is_part(batch):
            yield batch
        elif len(batch) == 1:
            key = (batch["store_id"][0].as_py(), tuple(batch["paths"][0].as_py()))
            groups.setdefault(key, []).append(batch)
    for group in groups.values():
        chosen = _covering(group, items)
        if chosen:
            yield _joined(chosen)


def overlaps(part: tuple[str | None, str | None], items: ItemRange) -> bool:
    """Whether a range (first, end) has any of the items."""
    first, end = part
    is_after = first is not None and items.end is not None and first >= items.end
    is_before = end is not None and items.first is not None and end <= items.first
    return not is_after and not is_before


def store_days(batches: Sequence[pa.RecordBatch], rows: PackedRows) -> StoreDays:
    """The days of the only store of these entries, whose rows are `rows`.

    Entries that have a range of its items say the days of all of them.
    """
    parts = [batch for batch in batches if SOLD_DAYS in batch.schema.names]
    is_whole = [SOLD_DAYS not in batch.schema.names for batch in batches for _ in range(len(batch))]
    of_rows = np.repeat(np.array(is_whole, np.bool_), rows.entry_rows)
    days = rows.table["date"].cast(pa.int32()).to_numpy().astype(np.int64)[of_rows]
    sales = rows.table["sales"].to_numpy()[of_rows]
    delivered = [days[~np.isnan(sales)], *(_days(batch, DELIVERED_DAYS) for batch in parts)]
    sold = [days[sales > 0], rows.sold_days, *(_days(batch, SOLD_DAYS) for batch in parts)]
    none = np.array([], np.int64)
    return StoreDays(np.unique(np.concatenate(delivered)), np.unique(np.concatenate(sold)), none)


def _days(batch: pa.RecordBatch, name: str) -> Ints:
    days: Ints = batch.column(name).flatten().to_numpy().astype(np.int64)
    return days


def _covering(group: Sequence[pa.RecordBatch], items: ItemRange) -> list[pa.RecordBatch]:
    """The parts that have the items, in their order; none where they leave a gap."""
    parts = {(batch[FIRST][0].as_py(), batch[END][0].as_py()): batch for batch in group}
    chosen: list[pa.RecordBatch] = []
    reached: str | None = None
    for first, end in sorted(parts, key=lambda part: (part[0] is not None, part[0] or "")):
        if not overlaps((first, end), items):
            continue
        begins = first is None or (items.first is not None and first <= items.first)
        if not (first == reached if chosen else begins):
            return []
        chosen.append(parts[first, end])
        reached = end
    is_whole = reached is None or (items.end is not None and reached >= items.end)
    return chosen if is_whole else []


def _joined(parts: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    first = parts[0]
    columns: dict[str, pa.Array] = {name: first.column(name) for name in _OF_FILES}
    begins = [part["first_delivered"][0].as_py() for part in parts]
    ends = [part["last_delivered"][0].as_py() for part in parts]
    columns["first_delivered"] = pa.array([min(begins)])
    columns["last_delivered"] = pa.array([max(ends)])
    for field in ENTRY_FIELDS:
        if field.name not in columns:
            columns[field.name] = _list([part.column(field.name).flatten() for part in parts])
    for name in (DELIVERED_DAYS, SOLD_DAYS):
        columns[name] = first.column(name)
    for name in dict.fromkeys(name for part in parts for name in part.schema.names):
        if name.startswith(COLUMN_PREFIX):
            columns[name] = _list(_values(parts, name))
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def _values(parts: Sequence[pa.RecordBatch], name: str) -> list[pa.Array]:
    """The plain values of a column, part by part; null or NaN where a part has no such column."""
    arrays: list[pa.Array | None] = []
    for part in parts:
        place = part.schema.get_field_index(name)
        flat = None if place < 0 else part.column(place).flatten()
        if flat is not None and not pa.types.is_string(flat.type):
            flat = pa.array(unpack_numbers(part.schema.field(place), flat))
        arrays.append(flat)
    is_text = any(array is not None and pa.types.is_string(array.type) for array in arrays)
    counts = [int(pc.sum(part.column("item_rows").flatten()).as_py()) for part in parts]
    return [
        (pa.nulls(count, pa.string()) if is_text else pa.array(np.full(count, np.nan)))
        if array is None
        else array
        for array, count in zip(arrays, counts, strict=True)
    ]


def _list(arrays: Sequence[pa.Array]) -> pa.ListArray:
    flat = pa.concat_arrays(arrays)
    return pa.ListArray.from_arrays(pa.array([0, len(flat)], pa.int32()), flat)
