"""The checks of what rows of sales mean, after each file by itself was found good."""

from __future__ import annotations

from ray_job.ingest.plausibility.contradictions import check_contradictions
from ray_job.ingest.plausibility.daily_sales import make_sample
from ray_job.ingest.plausibility.missing_items import missing_items_warning
from ray_job.ingest.plausibility.stock import stock_warning
from ray_job.ingest.plausibility.totals import find_totals, leave_out_totals, total_problems
from ray_job.ingest.reading.batch import RawBatch
from ray_job.ingest.reading.kinds import SALES
from ray_job.ingest.reading.raw_files import BadFilesError
from ray_job.ingest.reading.workspace import Workspace


def check_meaning(workspace: Workspace, batch: RawBatch) -> tuple[str, ...]:
    """Warnings about the sales of a batch. Totals are left out if the settings say so.

    Raises BadFilesError for files of daily sales that contradict each other, and for files with
    totals if the settings refuse them.
    """
    groups = batch.groups_of(SALES)
    if not groups:
        return ()
    settings = groups[0].files.settings.sales
    warnings: list[str] = []
    if settings.rows == "daily" and sum(len(group.files.files) for group in groups) > 1:
        check_contradictions(workspace, groups)
    if settings.totals != "keep" and make_sample(workspace, groups):
        totals = find_totals(workspace)
        if settings.totals == "leave_out":
            warnings += leave_out_totals(workspace, groups, totals)
        elif problems := total_problems(workspace, groups, totals):
            raise BadFilesError(problems)
    if settings.rows == "daily" and settings.missing_items == "unknown":
        warning = missing_items_warning(workspace, groups)
        warnings += [warning] if warning is not None else []
    warning = stock_warning(workspace, groups)
    warnings += [warning] if warning is not None else []
    return tuple(warnings)
