"""Sections: the folded histories of some stores as one Arrow stream.

One row of a section is an entry: some files of one store, and the observations that their rows fold
to. Observations are sorted by item and date, and are kept as runs of consecutive days, so that they
have no column of dates. `add` rows are not folded, since what they add to is not known here.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ray_job.data.packs.folding import Ints, PackSource, SectionRows, is_whole, run_begins
from ray_job.data.packs.values import pack_numbers

ENTRY_FIELDS = (
    pa.field("store_id", pa.string()),
    pa.field("paths", pa.list_(pa.string())),
    pa.field("sizes", pa.list_(pa.int64())),
    pa.field("first_days", pa.list_(pa.int32())),
    pa.field("last_days", pa.list_(pa.int32())),
    pa.field("first_delivered", pa.int64()),
    pa.field("last_delivered", pa.int64()),
    pa.field("items", pa.list_(pa.string())),
    pa.field("item_rows", pa.list_(pa.int32())),
    pa.field("run_days", pa.list_(pa.int32())),
    pa.field("run_rows", pa.list_(pa.int32())),
    pa.field("run_delivered", pa.list_(pa.int64())),
    pa.field("run_adds", pa.list_(pa.int8())),
    pa.field("sold_days", pa.list_(pa.int32())),
)
"""What every section has beside sales and the further columns, one list of values for an entry.

`paths` are keys of the bucket. `sold_days` are days on which a row that a later one corrected had
sales above 0, and no other row has.
"""
PART_FIELDS = (
    pa.field("first_item", pa.string()),
    pa.field("end_item", pa.string()),
    pa.field("store_delivered_days", pa.list_(pa.int32())),
    pa.field("store_sold_days", pa.list_(pa.int32())),
)
"""What a section of a range of items has, too: see StorePart. It has one entry."""
_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")


COLUMN_PREFIX = "column."
"""Before the names of columns of the table, so that none of them is that of another field."""


@dataclass(frozen=True, slots=True)
class EncodedSection:
    """The bytes of a section, its numbers of entries and rows, and its first time of delivery."""

    data: bytes
    stores: int
    rows: int
    first_delivered: int


def encode_section(
    sources: Sequence[PackSource], metadata: Mapping[str, str]
) -> EncodedSection | None:
    """A section of these stores, in their order; the columns of each have `has_packed_form`.

    A source with a `part` is the only one of its section.

    A store whose rows have no certain order is left out: two rows of one delivery for the same item
    and date, or later rows before earlier ones. So is one with nulls where no row has any. None
    where no store is left.
    """
    sources = [source for source in sources if is_whole(source.rows)]
    if not sources:
        return None
    rows = SectionRows.of(sources)
    uncertain = rows.uncertain_stores()
    if len(uncertain):
        left_out = set(uncertain.tolist())
        kept = [source for place, source in enumerate(sources) if place not in left_out]
        return encode_section(kept, metadata)
    first = np.minimum.reduceat(rows.delivered, run_begins(rows.stores))
    batch = _batch(rows.folded(), sources, first)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(
        sink, batch.schema.with_metadata(dict(metadata)), options=_OPTIONS
    ) as out:
        out.write_batch(batch)
    return EncodedSection(
        sink.getvalue().to_pybytes(), len(sources), len(rows.days), int(first.min())
    )


def _batch(
    rows_of_stores: SectionRows, sources: Sequence[PackSource], first_delivered: Ints
) -> pa.RecordBatch:
    bounds = np.arange(len(sources) + 1)
    rows = np.searchsorted(rows_of_stores.stores, bounds)
    series_starts = run_begins(rows_of_stores.series)
    run_starts = rows_of_stores.run_starts()
    items_of = np.searchsorted(series_starts, rows)
    runs_of = np.searchsorted(run_starts, rows)
    files = [file for source in sources for file in source.files]
    files_of = np.array([0, *itertools.accumulate(len(source.files) for source in sources)])
    sold_of = np.searchsorted(rows_of_stores.sold_days[0], bounds)
    arrays = [
        pa.array([source.store_id for source in sources]),
        _lists(files_of, pa.array([file.path for file in files], pa.string())),
        _lists(files_of, pa.array([file.size for file in files], pa.int64())),
        _lists(files_of, pa.array([file.first_day for file in files], pa.int32())),
        _lists(files_of, pa.array([file.last_day for file in files], pa.int32())),
        pa.array(first_delivered),
        pa.array(np.maximum.reduceat(rows_of_stores.delivered, rows[:-1])),
        _lists(items_of, rows_of_stores.items.take(pa.array(rows_of_stores.series[series_starts]))),
        _lists(items_of, _lengths(series_starts, len(rows_of_stores.days))),
        _lists(runs_of, pa.array(rows_of_stores.days[run_starts].astype(np.int32))),
        _lists(runs_of, _lengths(run_starts, len(rows_of_stores.days))),
        _lists(runs_of, pa.array(rows_of_stores.delivered[run_starts])),
        _lists(runs_of, pa.array(rows_of_stores.adds[run_starts].astype(np.int8))),
        _lists(sold_of, pa.array(rows_of_stores.sold_days[1].astype(np.int32))),
    ]
    fields = list(ENTRY_FIELDS)
    if (part := sources[0].part) is not None:
        fields += PART_FIELDS
        arrays += [
            pa.array([part.first], pa.string()),
            pa.array([part.end], pa.string()),
            pa.array([part.delivered_days.astype(np.int32)], pa.list_(pa.int32())),
            pa.array([part.sold_days.astype(np.int32)], pa.list_(pa.int32())),
        ]
    for name, values in rows_of_stores.numbers.items():
        if name in rows_of_stores.texts:
            mask = np.isnan(values)
            codes = pa.array(np.where(mask, 0, values).astype(np.int32), mask=mask)
            array = rows_of_stores.texts[name].take(codes)
            field = pa.field(name, pa.list_(array.type))
        else:
            field, array = pack_numbers(name, values)
        fields.append(_column_field(field))
        arrays.append(_lists(rows, array))
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def _column_field(field: pa.Field) -> pa.Field:
    return field.with_name(COLUMN_PREFIX + field.name)


def _lengths(starts: Ints, end: int) -> pa.Array:
    return pa.array(np.diff(np.append(starts, end)).astype(np.int32))


def _lists(bounds: Ints, values: pa.Array) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(bounds.astype(np.int32)), values)
