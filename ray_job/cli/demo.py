"""The command that shows the whole way: demo."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ray_job.cli.command_context import Bucket, Json, SettingsFile, open_command

if TYPE_CHECKING:
    from ray_job.model.train import TrainingReport
    from ray_job.nightly.demo import DemoDelivery

app = typer.Typer()

_ON_RAY = "RAY_AUTH_MODE=token RAY_ADDRESS=127.0.0.1:6379"


@app.command()
def demo(
    bucket: Bucket = None,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """The whole way, on generated stores in a local directory.

    The data end yesterday. The nights before the last one run as if at their own midnight, so that
    there are forecasts to compare with what was then sold.
    """
    from ray_job.cli import output
    from ray_job.nightly.demo import empty_directory, example_forecast, run_demo

    command = open_command(bucket, settings, as_json=as_json)
    folder = empty_directory(command.settings.bucket)
    storage = command.storage()
    receipt = run_demo(
        storage,
        command.settings,
        now=command.now,
        clock=time.monotonic,
        progress=command.progress,
        on_step=_print_nothing if as_json else _print_step,
    )
    command.print_json(output.run_document(receipt))
    if not as_json:
        output.print_run(receipt)
        _print_example(example_forecast(storage), folder)


def _print_nothing(step: DemoDelivery | TrainingReport) -> None:
    """With --json nothing but the document is printed."""


def _print_step(step: DemoDelivery | TrainingReport) -> None:
    from ray_job.cli.output import counted, print_line
    from ray_job.nightly.demo import DemoDelivery

    if isinstance(step, DemoDelivery):
        files, rows = counted(step.report.files, "file"), counted(step.report.rows, "row")
        print_line(f"Ingested {files} of {step.kind}: {rows}.")
    else:
        print_line(f"Trained model {step.version} on {step.trained_on.rows:,} past days.")


def _print_example(row: dict[str, Any] | None, folder: Path) -> None:
    """Print the forecast of one store, and the commands that show more."""
    from ray_job.cli.output import print_line, print_table

    if row is None:
        print_line("Nothing was published; the lines above say why.")
        return
    store = row["store_id"]
    columns = ("target_dates", "predicted", "lower_80", "upper_80", "method")
    print_table(
        ("day", "forecast", "80 % from", "to", ""),
        zip(*(row[column] for column in columns), strict=True),
        title=f"\nStore {store}: sales of the next days, made from sales through {row['as_of']}",
    )
    option = "" if str(folder) == "data" else f" --bucket {folder}"
    print_line("\nTo see more:")
    if shutil.which("storecast") is None:
        activate = Path(os.path.relpath(sys.prefix), "bin", "activate")
        print_line(f"  {f'source {activate}':<44} puts `storecast` on the PATH of this shell")
    for command, explanation in (
        (f"storecast explain {store}{option}", "where a store's number comes from"),
        (f"storecast plan{option}", "the chunks of a run"),
        (f"storecast accuracy{option}", "how good the last forecasts were"),
        (f"storecast releases{option}", "the publications and their receipts"),
        ("make serve", f"the API; then curl http://127.0.0.1:8080/results/{store}"),
    ):
        print_line(f"  {command:<44} {explanation}")
    print_line("\nTo watch a run in Ray's dashboard, http://127.0.0.1:8265:")
    for command, explanation in (
        ("ray start --head; ray get-auth-token", "a Ray that stays; the page asks for the token"),
        (f"{_ON_RAY} storecast demo{option}", ""),
        ("ray stop", ""),
    ):
        print_line(f"  {command:<44} {explanation}".rstrip())
