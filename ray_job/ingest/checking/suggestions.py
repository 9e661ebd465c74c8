"""Settings with which files can be read, guessed from their headers and values.

An ingest guesses nothing. A guess is shown to somebody who decides.
"""

# `workspace` quotes all names and texts in SQL.
# ruff: noqa: S608

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ray_job.ingest.reading.groups import FileGroup
from ray_job.ingest.reading.header_hints import guess_columns
from ray_job.ingest.reading.kinds import SALES, Kind, delivery_of, kind_of
from ray_job.ingest.reading.load import path_for_duckdb, reader_sql
from ray_job.ingest.reading.notation import date_formats, number_pattern
from ray_job.ingest.reading.raw_files import BadFilesError, RawFile
from ray_job.ingest.reading.shapes import PATH_INDEX, Shape, columns_of, read_shape
from ray_job.ingest.reading.workspace import Workspace
from ray_job.settings import Delivery, Settings

_VALUES = 5_000
_NOTATIONS = (
    (None, None),
    (",", None),
    (",", "."),
    (".", ","),
    (",", " "),
    (".", " "),
    (",", "'"),
    (".", "'"),
)
_BOTH_WAYS = re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+")
_OPTIONAL = {
    SALES: ("sales", "item_id", "open", "promo", "in_stock"),
    "stores": ("closed_for_good",),
}
_NEVER_AHEAD = ("sales", "in_stock", "id", "row_id", "index")


def guess_kind(header: Sequence[str]) -> str:
    """The kind of a file by its header; `sales` if nothing else fits better."""
    has = {
        name: name in header or bool(guess_columns([name], header))
        for name in ("store_id", "date", "region", "holiday")
    }
    if has["store_id"]:
        return SALES if has["date"] else "stores"
    if has["region"] and has["date"]:
        return "holidays" if has["holiday"] else "weather"
    return SALES


def with_section(settings: Settings, kind: str, changes: Mapping[str, Any]) -> Settings:
    """The settings with changes of one kind's section. Raises ValueError if they do not fit."""
    section = delivery_of(settings, kind)
    changed = type(section)(**(section.model_dump() | dict(changes)))
    return settings.model_copy(update={kind: changed})


def suggest_headers(settings: Settings, kind: str, shape: Shape) -> dict[str, Any]:
    """Changes of the kind's section with which the header fits."""
    section = delivery_of(settings, kind)
    columns = {n: header for n, header in section.columns.items() if header in shape.header}
    names = [*kind_of(kind).required, *_OPTIONAL.get(kind, ())]
    missing = [name for name in names if name not in columns and name not in shape.header]
    guesses = guess_columns(missing, shape.header, columns)
    changes: dict[str, Any] = {}
    if guesses:
        changes["columns"] = dict(section.columns) | guesses
    unread = [
        header
        for header, file_type in zip(shape.header, shape.types, strict=True)
        if (not header or file_type == "other") and header not in section.ignore
    ]
    if unread:
        changes["ignore"] = (*section.ignore, *unread)
    return changes


def suggest_values(workspace: Workspace, settings: Settings, group: FileGroup) -> dict[str, Any]:
    """Changes of the kind's section with which dates and numbers can be read."""
    changes: dict[str, Any] = {}
    by_name = {column.name: column for column in group.columns}
    delivery = group.delivery
    day = by_name.get("date")
    if day is not None and day.file_type != "day" and delivery.date_format is None:
        date_format = _date_format(_texts(workspace, group, day.index, day.header))
        if date_format is not None:
            changes["date_format"] = date_format
    numbers = by_name.get("sales")
    is_open = delivery.decimal is None and delivery.thousands is None
    if numbers is not None and numbers.file_type in ("untyped", "text") and is_open:
        texts = _texts(workspace, group, numbers.index, numbers.header)
        changes |= _notation(texts, group.shape.delimiter)
    store = by_name.get("store_id")
    if (
        store is not None
        and settings.sales.store_ids == "as_delivered"
        and group.kind.name == SALES
    ):
        texts = _texts(workspace, group, store.index, store.header)
        if any(not re.fullmatch(r"[A-Za-z0-9_-]{1,64}|\d+\.0", text) for text in texts):
            changes["store_ids"] = "encode"
    return changes


def known_ahead(
    workspace: Workspace, groups: Sequence[tuple[FileGroup, Mapping[str, str]]]
) -> list[str]:
    """The further columns that have values on rows without sales, which are days to come."""
    names: dict[str, None] = {}
    for group, values in groups:
        sales = f"({values['sales']}) IS NULL" if "sales" in values else "true"
        for name, sql in values.items():
            if name in (*names, "sales", "in_stock") or name.casefold() in (
                "id",
                "row_id",
                "index",
            ):
                continue
            [(count,)] = workspace.run(
                f"SELECT count(*) FILTER ({sales} AND ({sql}) IS NOT NULL) FROM {group.table}"
            )
            if count:
                names[name] = None
    return list(names)


def shape_of(
    workspace: Workspace, settings: Settings, file: RawFile
) -> tuple[RawFile, Shape, tuple[str, ...]]:
    """The file, its shape, and the columns of its path. Raises BadFilesError.

    The header is looked for with the headers of the settings, then with guesses.
    """
    headers = delivery_of(settings, file.kind).columns
    path_headers = tuple(file.path_columns)
    needed = {headers.get(name, name) for name in kind_of(file.kind).required}
    shaped, shape = read_shape(file, needed - set(path_headers), workspace.folder)
    return shaped, shape, path_headers


def group_of(settings: Settings, file: RawFile, shape: Shape, today: Any) -> FileGroup | None:
    """The file as a group, None if its header does not fit."""
    kind: Kind = kind_of(file.kind)
    delivery: Delivery = delivery_of(settings, file.kind)
    own = {delivery.columns.get(name, name) for name in kind.key}
    path_headers = [n for n in file.path_columns if n in own and n not in shape.header]
    try:
        columns = columns_of(shape, delivery, file.name, path_headers)
        kind.check_header(columns, settings, file.name)
    except BadFilesError:
        return None
    return FileGroup(kind, shape, columns, (file,), 0, settings, today)


def _texts(workspace: Workspace, group: FileGroup, index: int, header: str) -> list[str]:
    """Some of the texts of a column."""
    if index == PATH_INDEX:
        return [group.files[0].path_columns[header]]
    column = f"c{index}" if group.shape.format == "csv" else '"' + header.replace('"', '""') + '"'
    path = path_for_duckdb(group.files[0].readable)
    rows = workspace.run(
        f"SELECT DISTINCT CAST({column} AS VARCHAR) AS text FROM {reader_sql(group)}"
        f" WHERE nullif(CAST({column} AS VARCHAR), '') IS NOT NULL"
        f" ORDER BY hash(text) LIMIT {_VALUES}",
        [[path]],
    )
    return [text for (text,) in rows]


def _date_format(texts: Sequence[str]) -> str | None:
    """The format with which most of the texts are days, None if they need none."""
    if not texts or sum(bool(re.match(r"\d{4}[-/]", text.strip())) for text in texts) * 2 > len(
        texts
    ):
        return None
    counts: dict[str, int] = {}
    for text in texts:
        for date_format in date_formats(text):
            if _is_day(text, date_format):
                counts[date_format] = counts.get(date_format, 0) + 1
    best = max(counts, key=lambda each: counts[each], default=None)
    return best if best is not None and counts[best] * 2 > len(texts) else None


def _is_day(text: str, date_format: str) -> bool:
    try:
        datetime.strptime(text.strip(), date_format)  # noqa: DTZ007 - only whether it reads
    except ValueError:
        return False
    return True


def _notation(texts: Sequence[str], delimiter: str) -> dict[str, Any]:
    """The notation with which most of the texts are numbers; empty if they need none."""
    plain = [text.strip() for text in texts]
    dotted = [text for text in plain if "." in text]
    if dotted and all(_BOTH_WAYS.fullmatch(text) for text in dotted) and "," not in "".join(plain):
        return {"thousands": "."} if delimiter == ";" else {"decimal": "."}
    counts = [
        sum(bool(re.fullmatch(number_pattern(decimal or ".", thousands), text)) for text in plain)
        for decimal, thousands in _NOTATIONS
    ]
    decimal, thousands = _NOTATIONS[counts.index(max(counts))] if counts else (None, None)
    changes = {"decimal": decimal, "thousands": thousands}
    return {name: mark for name, mark in changes.items() if mark is not None}
