"""The use case: read all new raw files, commit their rows once, then compact."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path

from ray_job.bucket import keys
from ray_job.bucket.errors import ConflictError, InputError, StorecastError
from ray_job.bucket.receipts import BadDelivery
from ray_job.bucket.storage import Storage
from ray_job.bucket.storage.patience import PATIENCE
from ray_job.ingest.attempt import (
    IngestAttempt,
    LostRaceError,
    table_version,
)
from ray_job.ingest.compaction import CompactScope
from ray_job.ingest.compaction import compact as compact_stores
from ray_job.ingest.ingest_report import IngestReport
from ray_job.ingest.reading.kinds import SALES, kind_of
from ray_job.ingest.reading.raw_files import BadFilesError
from ray_job.ingest.reading.workspace import open_workspace
from ray_job.progress import Progress, SilentProgress
from ray_job.settings import Settings

_ATTEMPTS = 20
"""After so many lost races in a row an ingest gives up. In each race another ingest succeeded."""


def ingest(
    storage: Storage,
    settings: Settings,
    files: Sequence[Path] = (),
    *,
    kind: str | None = None,
    replace: bool = False,
    from_batch_data: bool = False,
    now: datetime,
    compact: CompactScope | None = None,
    leave_out_bad: bool = False,
    progress: Progress | None = None,
) -> IngestReport:
    """Copy `files` into raw_data, read every new raw file, commit their rows, then compact.

    `kind` is the kind of `files`, sales by default; with `replace` they replace all earlier rows of
    their (store, date) pairs. With `from_batch_data` the files that another program wrote below
    batch_data/ are copied into raw_data, too, and stay where they are. `compact` None means: do not
    compact.

    All or nothing: if a file is bad, no row is committed and none of `files` is copied. With
    `leave_out_bad` and without `files`, the good files are committed and the report names the bad
    ones. A bad file stays new, so that each later ingest tries it again.

    Idempotent: a second call changes nothing. Several ingests may run at once: after a lost race,
    the files that are still new are read again. Raises InputError for bad input; its message names
    file, row and column.

    If compaction fails, for whatever reason, the files of the histories stay as they are, the
    report has the reason, and the scope's next turn tries again.
    """
    progress = progress or SilentProgress()
    kind_of(kind or SALES)
    if from_batch_data and (kind is not None or replace):
        raise InputError("--from-batch-data brings in sales: it has neither --kind nor --replace")
    if not files and (kind is not None or replace):
        raise InputError("--kind and --replace describe FILEs: name at least one FILE")
    with PATIENCE.limited(settings.run.storage_wait_seconds):
        return _ingest(
            storage,
            settings,
            files,
            kind or SALES,
            replace,
            now,
            progress,
            compact,
            leave_out_bad,
            from_batch_data=from_batch_data,
        )


def _ingest(
    storage: Storage,
    settings: Settings,
    files: Sequence[Path],
    kind: str,
    replace: bool,
    now: datetime,
    progress: Progress,
    compact: CompactScope | None,
    leave_out_bad: bool,
    *,
    from_batch_data: bool,
) -> IngestReport:
    bad: dict[str, str] = {}
    while True:
        try:
            report = _commit_new_files(
                storage,
                settings,
                files,
                kind,
                replace,
                now,
                progress,
                bad,
                from_batch_data=from_batch_data,
            )
            break
        except BadFilesError as error:
            if not leave_out_bad or files:
                raise
            bad |= error.problems
    bad_deliveries = tuple(
        BadDelivery(key=keys.printable(key), reason=f"{keys.printable(key)}: {bad[key]}")
        for key in sorted(bad)
    )
    report = dataclasses.replace(report, bad=bad_deliveries)
    if compact is None:
        return report
    try:
        compacted = compact_stores(storage, settings, compact, now=now, progress=progress)
    except Exception as error:  # noqa: BLE001 - a failed compaction must not end a night
        prefix = "" if isinstance(error, StorecastError) else f"{type(error).__name__}: "
        reason = prefix + str(error).partition("\n")[0]
        return dataclasses.replace(report, not_compacted=reason)
    return dataclasses.replace(report, compacted=compacted, version=table_version(storage))


def _commit_new_files(
    storage: Storage,
    settings: Settings,
    files: Sequence[Path],
    kind: str,
    replace: bool,
    now: datetime,
    progress: Progress,
    left_out: Collection[str],
    *,
    from_batch_data: bool,
) -> IngestReport:
    """Try until no other ingest was faster."""
    for _ in range(_ATTEMPTS):
        try:
            with open_workspace(settings) as workspace:
                attempt = IngestAttempt(
                    storage, settings, workspace, now, progress, left_out, from_batch_data
                )
                return attempt.run(files, kind, replace)
        except LostRaceError:
            continue
    raise ConflictError(
        f"{keys.BATCH_DATA}: another ingest was faster {_ATTEMPTS} times in a row: try again later"
    )
