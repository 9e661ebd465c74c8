"""The columns of tables that others may have made, as the log describes them: named if wrong.

Other programs choose other types. A history or a context in which a day is no date, or an id no
text, would give an empty or a wrong answer, so that the table is refused as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa

from ray_job.bucket import keys
from ray_job.bucket.errors import InputError
from ray_job.data.context.columns import is_number, is_text
from ray_job.data.partition import REQUIRED


class _Wanted(NamedTuple):
    kind: str
    is_right: Callable[[pa.DataType], bool]


_TEXT, _NUMBER = _Wanted("text", is_text), _Wanted("a number", is_number)
_DAY = _Wanted("a date", pa.types.is_date)
_DAY_OR_TEXT = _Wanted("a date", lambda kind: pa.types.is_temporal(kind) or is_text(kind))
_TIME = _Wanted("a timestamp", pa.types.is_timestamp)
_HISTORIES = dict(zip(REQUIRED, (_TEXT, _DAY, _NUMBER, _TIME, _TEXT), strict=True))
CONTEXT_KEYS: Mapping[str, Sequence[str]] = {
    "stores": ["store_id"],
    "weather": ["region", "date"],
    "holidays": ["region", "date"],
}
"""The columns that tell the rows of a table of the context apart."""
_CONTEXT = {
    "store_id": _TEXT,
    "region": _TEXT,
    "date": _DAY_OR_TEXT,
    "holiday": _TEXT,
    "delivered_at": _TIME,
}


def check_histories(columns: pa.Schema, root: str = keys.BATCH_DATA) -> None:
    """Raise InputError unless the table has the columns that every history has, in their types."""
    _check(columns, root, _HISTORIES)


def check_context(kind: str, columns: pa.Schema, partition_columns: Collection[str]) -> None:
    """The same for a table of the context, which has no partitions: its files have all columns."""
    root = keys.context(kind)
    if partition_columns:
        raise InputError(
            f"{root}: the table is partitioned by {list(partition_columns)}: write it without"
            " partitions"
        )
    needed = [*CONTEXT_KEYS[kind], *(name for name in _CONTEXT if name in columns.names)]
    _check(columns, root, {name: _CONTEXT[name] for name in needed})


def check_context_rows(kind: str, rows: pa.Table) -> None:
    """Raise InputError for rows without what they are about. A holiday may be of all regions."""
    for name in CONTEXT_KEYS[kind]:
        is_needed = (kind, name) != ("holidays", "region")
        if is_needed and (nulls := rows[name].null_count):
            raise InputError(
                f"{keys.context(kind)}: column {name!r} is empty in {nulls:,} rows: delete these"
                " rows, or build the table again"
            )


def _check(columns: pa.Schema, root: str, wanted: Mapping[str, _Wanted]) -> None:
    for name, (kind, is_right) in wanted.items():
        if name not in columns.names:
            raise InputError(f"{root}: the table has no column {name!r}")
        if not is_right(columns.field(name).type):
            raise InputError(
                f"{root}: the table's column {name!r} is of type {columns.field(name).type}, and"
                f" has to be {kind}: write the table anew with it"
                " (docs/writing-from-outside.md has the types)"
            )
