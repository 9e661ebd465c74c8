"""The statistics of a table's files, which other programs write as they like."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ray_job.bucket.errors import CorruptError
from ray_job.data.delta_log.json_lines import read_lines

_EXTENT = pa.struct([("item_id", pa.string()), ("date", pa.string())])
_STATISTICS = pa.schema(
    [("numRecords", pa.int64()), ("minValues", _EXTENT), ("maxValues", _EXTENT)]
)
_MOST_ROWS = 2**53
"""A file that is said to have more rows is said wrong."""


def statistics_of(texts: pa.ChunkedArray) -> pa.Table:
    """The statistics of each file, of _STATISTICS. They are hints: what cannot be read is null.

    All are parsed at once; where that fails for any of them, each by itself.
    """
    texts = pc.fill_null(texts, "{}").combine_chunks()
    are_objects = pc.match_substring_regex(texts, r"^\{[^\n\r]*\}$")
    if pc.all(are_objects).as_py():
        lines = pa.LargeListArray.from_arrays(
            pa.array([0, len(texts)]), texts.cast(pa.large_string())
        )
        whole = pc.binary_join(lines, pa.scalar("\n", pa.large_string()))[0].as_buffer()
        with suppress(CorruptError, pa.ArrowInvalid):
            statistics = read_lines(whole, _STATISTICS, "statistics")
            for name in ("minValues", "maxValues"):
                pc.struct_field(statistics[name], "date").cast(pa.date32())
            rows = pc.fill_null(statistics["numRecords"], 0)
            are_counts = pc.and_(pc.greater_equal(rows, 0), pc.less(rows, _MOST_ROWS))
            if statistics.num_rows == len(texts) and pc.all(are_counts).as_py():
                return statistics
    return pa.Table.from_pylist([_readable(text) for text in texts.to_pylist()], _STATISTICS)


def column_of(actions: pa.Table, name: str, kind: pa.DataType) -> pa.ChunkedArray | pa.Array:
    """A column of the list of delta-rs; null where there is none, or one that cannot be meant."""
    if name in actions.column_names:
        with suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return actions[name].cast(kind)
    return pa.nulls(actions.num_rows, kind)


def _readable(text: str) -> dict[str, Any]:
    """What can be used of a file's statistics. An extent is used as a whole, or not at all."""
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(given, dict):
        return {}
    rows = given.get("numRecords")
    ends = [given.get(name) for name in ("minValues", "maxValues")]
    extents: list[dict[str, Any]] = [{}, {}]
    for name, is_usable in (("date", _is_date), ("item_id", _is_text)):
        values = [end.get(name) if isinstance(end, dict) else None for end in ends]
        if all(is_usable(value) for value in values):
            extents = [
                {**extent, name: value} for extent, value in zip(extents, values, strict=True)
            ]
    return {
        "numRecords": rows if type(rows) is int and 0 <= rows < _MOST_ROWS else None,
        "minValues": extents[0],
        "maxValues": extents[1],
    }


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_date(value: object) -> bool:
    try:
        return isinstance(value, str) and date.fromisoformat(value).isoformat() == value
    except ValueError:
        return False
