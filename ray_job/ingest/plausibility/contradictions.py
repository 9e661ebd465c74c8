"""Files of one ingest that have different sales for the same store, item and date.

Nobody knows which of them is right, since they were brought in together. A file that is brought in
later corrects, and so does a file that replaces earlier rows.
"""

# `workspace` quotes all names and texts in SQL.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Sequence

from ray_job.ingest.reading.batch import LoadedGroup
from ray_job.ingest.reading.duplicates import repeated_table
from ray_job.ingest.reading.groups import FILE, MOMENT, FileGroup
from ray_job.ingest.reading.kinds import SALES
from ray_job.ingest.reading.raw_files import BadFilesError
from ray_job.ingest.reading.workspace import Workspace

_KEY = "store_id, item_id, date"
_SAME_KEY = "a.store_id = b.store_id AND a.item_id = b.item_id AND a.date = b.date"


def check_contradictions(workspace: Workspace, loaded_groups: Sequence[LoadedGroup]) -> None:
    """Raise BadFilesError for files of daily sales that contradict each other.

    Needs the table of `resolve_duplicates`.
    """
    groups = [group.files for group in loaded_groups]
    rows = [_rows(group) for group in loaded_groups if "sales" in group.values]
    if not rows:
        return
    workspace.run(f"CREATE OR REPLACE TEMP TABLE repeated_rows AS {' UNION ALL '.join(rows)}")
    workspace.run(
        f"CREATE OR REPLACE TEMP TABLE contradictions AS SELECT {_KEY} FROM repeated_rows"
        f" GROUP BY {_KEY} HAVING count(DISTINCT {FILE}) > 1"
        " AND (count(DISTINCT sales) > 1 OR count(DISTINCT coalesce(moment, 0)) > 1)"
    )
    pairs = workspace.run(
        "WITH firsts AS (SELECT r.* FROM repeated_rows r JOIN contradictions USING"
        f" (store_id, item_id, date) QUALIFY row_number() OVER (PARTITION BY r.{FILE}"
        " ORDER BY r.row) = 1)"
        f" SELECT a.{FILE}, a.row, b.{FILE}, b.row, a.moment IS DISTINCT FROM b.moment"
        f" FROM firsts a JOIN repeated_rows b ON {_SAME_KEY} AND a.{FILE} <> b.{FILE}"
        " WHERE a.sales <> b.sales OR a.moment IS DISTINCT FROM b.moment"
        f" QUALIFY row_number() OVER (PARTITION BY a.{FILE} ORDER BY b.{FILE}, b.row) = 1"
        f" ORDER BY a.{FILE}"
    )
    problems: dict[str, str] = {}
    for number, row, other_number, other_row, is_of_moments in pairs:
        group, other = (_group_of(groups, each) for each in (number, other_number))
        other_name = other.file(other_number).name
        way_out = (
            'put rows = "transactions" under [sales] in the settings, so that they are added up'
            if is_of_moments
            else "remove the wrong one; ingest a correction after the other file, or with --replace"
        )
        problems[group.file(number).name] = (
            f"row {group.row_number(workspace, number, row)} and row"
            f" {other.row_number(workspace, other_number, other_row)} of {other_name} have the same"
            f" {_KEY} but {'other times of the day' if is_of_moments else 'other sales'}: {way_out}"
        )
    if problems:
        raise BadFilesError(problems)


def _rows(loaded: LoadedGroup) -> str:
    """SQL of the group's rows with sales whose keys may occur twice."""
    group, values = loaded.files, loaded.values
    replacing = [str(n) for n, file in enumerate(group.files, group.first) if file.replaces]
    other_files = f" AND {FILE} NOT IN ({', '.join(replacing)})" if replacing else ""
    return (
        f"SELECT {FILE}, rowid AS row, {_KEY}, ({values['sales']}) AS sales, {MOMENT} AS moment"
        f" FROM {group.table} WHERE hash({_KEY}) IN (SELECT h FROM {repeated_table(SALES)})"
        f" AND ({values['sales']}) IS NOT NULL{other_files}"
    )


def _group_of(groups: Sequence[FileGroup], number: int) -> FileGroup:
    return next(group for group in groups if group.first <= number < group.end)
