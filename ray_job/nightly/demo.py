"""The demo: the whole way on generated stores, in a local directory.

The data end yesterday. The nights before the last one run as if at their own midnight, so that
there are forecasts to compare with what was then sold.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from ray_job import sample
from ray_job.bucket import pointer, releases
from ray_job.bucket.errors import InputError
from ray_job.bucket.receipts import Receipt
from ray_job.bucket.storage import Storage, local_directory, make_directory
from ray_job.data.requests import working_folder
from ray_job.execution.inline import InlineExecutor
from ray_job.ingest import IngestReport, ingest
from ray_job.model.train import TrainingReport, train_model
from ray_job.nightly.job import run_job
from ray_job.nightly.request import RunRequest
from ray_job.nightly.run import run
from ray_job.progress import Progress, SilentProgress
from ray_job.sample import files as sample_files
from ray_job.settings import Settings

MARK = ".storecast-demo"
"""A file in each directory that the demo made. The demo may delete such a directory."""
EXAMPLE_STORE = "s002"

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class DemoSize:
    """How many stores and days are generated, nights are run, and how large the model is."""

    stores: int = 40
    big_store_items: int = 300
    days: int = 500
    nights: int = 14
    trees: int = 100
    rows: int = 200_000


@dataclass(frozen=True, slots=True)
class DemoDelivery:
    """The files of one kind that were ingested."""

    kind: str
    report: IngestReport


def empty_directory(url: str) -> Path:
    """An empty directory for the demo; what an earlier demo left in it is deleted.

    Raises InputError if `url` is no directory, or if there are files of somebody else in it.
    """
    if url.startswith("gs://"):
        raise InputError(f"{url}: the demo makes its bucket in a local directory")
    folder = local_directory(url)
    make_directory(url)
    try:
        members = [member for member in folder.iterdir() if member.name != MARK]
        if members and not (folder / MARK).exists():
            raise InputError(f"{folder}: the directory is not empty, and no demo made it")
        # The mark stays until the end, so that a demo that was killed here can be given again.
        (folder / MARK).touch()
        for member in members:
            if member.is_dir() and not member.is_symlink():
                shutil.rmtree(member)
            else:
                member.unlink()
    except OSError as error:
        raise InputError(f"{error.filename or folder}: {error.strerror}") from error
    return folder


def run_demo(
    storage: Storage,
    settings: Settings,
    *,
    now: datetime,
    clock: Callable[[], float],
    progress: Progress,
    on_step: Callable[[DemoDelivery | TrainingReport], None],
    size: DemoSize = DemoSize(),
    run_last: Callable[..., Receipt] = run_job,
) -> Receipt:
    """Deliver, train, run the earlier nights, run the last night. Returns the last receipt.

    The model is a small one, to be quick. `on_step` gets what each step has done. `run_last` is
    called for the last night, as `run_job` is.
    """
    small = settings.training.model_copy(update={"trees": size.trees, "rows": size.rows})
    settings = settings.model_copy(update={"training": small})
    last_day = now.astimezone(settings.zone).date() - _DAY
    for delivery in _deliver(storage, settings, last_day, size, now, progress):
        on_step(delivery)
    trained_until = last_day - size.nights * _DAY
    on_step(train_model(storage, settings, as_of=trained_until, now=now, progress=progress))
    _run_earlier_nights(storage, settings, last_day, size.nights, progress)
    request = RunRequest(as_of=last_day)
    return run_last(storage, settings, request, now=now, clock=clock, progress=progress)


def example_forecast(storage: Storage) -> dict[str, Any] | None:
    """EXAMPLE_STORE's row of the current release; None if nothing is published."""
    current, _ = pointer.read(storage)
    entry = current.current_entry
    if entry is None:
        return None
    rows: list[dict[str, Any]] = releases.load(
        storage, entry.release, entry.sha256
    ).stores.to_pylist()
    return next(row for row in rows if row["store_id"] == EXAMPLE_STORE)


def _deliver(
    storage: Storage,
    settings: Settings,
    last_day: date,
    size: DemoSize,
    now: datetime,
    progress: Progress,
) -> Iterator[DemoDelivery]:
    spec = sample.SampleSpec(
        last_day=last_day,
        stores=size.stores,
        days=size.days,
        big_store_items=size.big_store_items,
        days_ahead=settings.horizon,
    )
    with working_folder() as folder:
        files = sample_files.write(sample.generate(spec), folder, format="csv.gz")
        for kind in ("sales", "weather", "holidays", "stores"):
            parent = folder if kind == "sales" else folder / kind
            delivered = [path for path in files if path.parent == parent]
            report = ingest(storage, settings, delivered, kind=kind, now=now, progress=progress)
            yield DemoDelivery(kind, report)


def _run_earlier_nights(
    storage: Storage, settings: Settings, last_day: date, nights: int, progress: Progress
) -> None:
    with progress.stage("earlier nights", nights, "nights") as stage:
        for nights_back in range(nights, 0, -1):
            as_of = last_day - nights_back * _DAY
            run(
                storage,
                settings,
                RunRequest(as_of=as_of),
                InlineExecutor(),
                now=datetime.combine(as_of + _DAY, time(0, 5), settings.zone),
                clock=lambda: 0.0,
                progress=SilentProgress(),
            )
            stage.advance()
