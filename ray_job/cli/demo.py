"""The command that shows the whole way: demo."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ray_job.bucket.errors import InputError
from ray_job.cli import output
from ray_job.cli.command_context import Bucket, CommandContext, Json, SettingsFile, edge
from ray_job.cli.models import training
from ray_job.cli.nightly import execute
from ray_job.nightly.prepare import RunRequest

if TYPE_CHECKING:
    from ray_job.bucket.storage import Storage

app = typer.Typer()

MARK = ".storecast-demo"
"""Lies in a directory that the demo made, and may make anew."""

_ON_RAY = "RAY_AUTH_MODE=token RAY_ADDRESS=127.0.0.1:6379"
_NIGHTS = 14
_TREES = 100
_ROWS = 200_000
_STORES = 40
_BIG_STORE_ITEMS = 300
_DAYS = 500
_SHOWN = "s002"
_DAY = timedelta(days=1)


@app.command()
def demo(
    bucket: Bucket = None,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """The whole way, on generated stores in a local directory.

    The data end yesterday. The nights before the last are played on their own clocks, so that
    there are forecasts to compare with what was then sold.
    """
    here = edge(bucket, settings, as_json=as_json)
    folder = _fresh(here.settings.bucket)
    quick = here.settings.training.model_copy(update={"trees": _TREES, "rows": _ROWS})
    here = replace(here, settings=here.settings.model_copy(update={"training": quick}))
    storage = here.storage()
    _deliver(here, storage)
    last_day = here.now.astimezone(here.settings.zone).date() - _DAY
    told = training(here, storage, last_day - _NIGHTS * _DAY)
    if not as_json:
        output.say(f"Trained model {told['version']} on {told['trained_on']['rows']:,} past days.")
    _earlier_nights(here, storage, last_day)
    receipt = execute(here, storage, RunRequest(as_of=last_day))
    here.tell(
        receipt.model_dump(mode="json", include=output.RUN_FIELDS)
        | {"stores": receipt.stores.model_dump()}
    )
    if not as_json:
        output.tell_run(receipt)
        _show(storage, folder)


def _fresh(url: str) -> Path:
    """An empty directory for the demo. Raises InputError where something else lies there."""
    if "://" in url:
        raise InputError(f"{url}: the demo makes its bucket in a local directory")
    folder = Path(url)
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARK).exists():
            raise InputError(f"{folder}: the directory is not empty, and no demo made it")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()
    return folder


def _deliver(here: CommandContext, storage: Storage) -> None:
    from ray_job import ingest, sample
    from ray_job.sample import files as sample_files

    spec = sample.SampleSpec(
        last_day=here.now.astimezone(here.settings.zone).date() - _DAY,
        stores=_STORES,
        days=_DAYS,
        big_store_items=_BIG_STORE_ITEMS,
        days_ahead=here.settings.horizon,
    )
    with tempfile.TemporaryDirectory() as folder:
        made = sample.generate(spec)
        files = sample_files.write(made, Path(folder), format="csv.gz")
        for kind in ("sales", "weather", "holidays", "stores"):
            parent = Path(folder) if kind == "sales" else Path(folder) / kind
            theirs = [path for path in files if path.parent == parent]
            report = ingest.ingest(
                storage,
                here.settings,
                theirs,
                kind=kind,
                now=here.now,
                progress=here.progress,
            )
            if not here.json:
                brought = output.counted(report.files, "file")
                rows = output.counted(report.rows, "row")
                output.say(f"Ingested {brought} of {kind}: {rows}.")


def _earlier_nights(here: CommandContext, storage: Storage, last_day: date) -> None:
    from ray_job.execution.inline import InlineExecutor
    from ray_job.nightly.run import run
    from ray_job.progress import SilentProgress

    with here.progress.stage("earlier nights", _NIGHTS, "nights") as stage:
        for back in range(_NIGHTS, 0, -1):
            as_of = last_day - back * _DAY
            midnight = datetime.combine(as_of + _DAY, time(0, 5), here.settings.zone)
            run(
                storage,
                here.settings,
                RunRequest(as_of=as_of),
                InlineExecutor(),
                now=midnight,
                clock=lambda: 0.0,
                progress=SilentProgress(),
            )
            stage.advance()


def _show(storage: Storage, folder: Path) -> None:
    from ray_job.bucket import pointer, releases

    current, _ = pointer.read(storage)
    entry = current.current_entry
    if entry is None:
        output.say("Nothing was published; the lines above say why.")
        return
    stores = releases.load(storage, entry.release, entry.sha256).stores.to_pylist()
    row = next(row for row in stores if row["store_id"] == _SHOWN)
    output.table(
        ("day", "forecast", "80 % from", "to", ""),
        zip(
            *(row[n] for n in ("target_dates", "predicted", "lower_80", "upper_80", "method")),
            strict=True,
        ),
        title=f"\nStore {_SHOWN}: sales of the next days, made from sales through {row['as_of']}",
    )
    where = "" if str(folder) == "data" else f" --bucket {folder}"
    output.say("\nTo see more:")
    for command, what in (
        (f"storecast explain {_SHOWN}{where}", "where a store's number comes from"),
        (f"storecast plan{where}", "the chunks of a run"),
        (f"storecast accuracy{where}", "how good the last forecasts were"),
        (f"storecast releases{where}", "what was published, and what the receipts say"),
        ("make serve", f"the API; then curl http://127.0.0.1:8080/results/{_SHOWN}"),
    ):
        output.say(f"  {command:<44} {what}")
    output.say("\nTo watch a run in Ray's dashboard, http://127.0.0.1:8265:")
    for command, what in (
        ("ray start --head; ray get-auth-token", "a Ray that stays; the page asks for the token"),
        (f"{_ON_RAY} storecast demo{where}", ""),
        ("ray stop", ""),
    ):
        output.say(f"  {command:<44} {what}".rstrip())
