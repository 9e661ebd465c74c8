"""The commands of a night: ingest, plan, run."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ray_job.bucket.keys import CONTEXT_KINDS
from ray_job.cli.command_context import (
    AsOf,
    Bucket,
    Json,
    SettingsFile,
    Stores,
    open_command,
    parse_date,
    parse_stores,
)

if TYPE_CHECKING:
    from ray_job.nightly.prepare import RunPlan

SUBMISSION = "STORECAST_SUBMISSION"
"""The variable that names the RayJob in which this process runs; see `ray_job.submit`."""

app = typer.Typer()


@app.command()
def ingest(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE]…", help="Copied into raw_data/ first.", show_default=False),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help=f"The kind of the FILEs: {', '.join(('sales', *CONTEXT_KINDS))}.",
            show_default="sales",
        ),
    ] = None,
    replace: Annotated[
        bool,
        typer.Option(help="Remove earlier rows of the same stores on the dates of the FILEs."),
    ] = False,
    from_batch_data: Annotated[
        bool,
        typer.Option(
            "--from-batch-data",
            help="Also copy in the Parquet or CSV files that others wrote into batch_data/.",
        ),
    ] = False,
    bucket: Bucket = None,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """Ingest every new raw file.

    All files go into one commit, and each file is ingested once. If one file is bad, nothing is
    ingested.
    """
    from ray_job.bucket.storage.patience import PATIENCE
    from ray_job.cli import output
    from ray_job.ingest import ingest as ingest_files
    from ray_job.nightly.job_events import ingest_fields

    command = open_command(bucket, settings, as_json=as_json)
    with PATIENCE.limited(command.settings.run.storage_wait_seconds):
        report = ingest_files(
            command.storage(create=bool(files)),
            command.settings,
            files or (),
            kind=kind,
            replace=replace,
            from_batch_data=from_batch_data,
            now=command.now,
            progress=command.progress,
        )
    command.print_json(ingest_fields(report))
    if not as_json:
        output.print_ingest(report)


@app.command()
def plan(
    as_of: AsOf = None,
    stores: Stores = None,
    bucket: Bucket = None,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """Print the chunks of a run, without running it."""
    from ray_job.cli import output
    from ray_job.nightly.prepare import prepare
    from ray_job.nightly.request import RunRequest

    command = open_command(bucket, settings, as_json=as_json)
    request = RunRequest(as_of=parse_date(as_of), stores=parse_stores(stores))
    run_plan = prepare(command.storage(), command.settings, request, command.now)
    chunks = _chunk_documents(run_plan, command.settings.run.attempts_per_as_of)
    command.print_json(
        {
            "as_of": run_plan.as_of.isoformat(),
            "chunks": chunks,
            "warnings": list(run_plan.warnings),
        }
    )
    if not as_json:
        output.print_plan(run_plan.as_of, chunks)
        output.print_warnings(run_plan.warnings)


def _chunk_documents(run_plan: RunPlan, attempts: int) -> list[dict[str, Any]]:
    """The chunks as JSON objects. `attempts` is how often a run tries a failed chunk."""
    return [
        {
            "digest": planned.chunk.digest,
            "stores": planned.chunk.store_ids,
            "items": None
            if planned.chunk.items is None
            else {"first": planned.chunk.items.first, "end": planned.chunk.items.end},
            "bytes": planned.chunk.bytes,
            "rows": planned.chunk.rows,
            "memory_bytes": planned.chunk.memory_bytes,
            "done": planned.adopted(attempts, force=False) is not None,
        }
        for planned in run_plan.planned_chunks
    ]


@app.command()
def run(
    ingest_first: Annotated[bool, typer.Option("--ingest", help="Ingest new raw files first.")] = (
        False
    ),
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of",
            help="YYYY-MM-DD, or `current`: that of the live release. Default: the newest"
            " date with sales.",
            show_default=False,
        ),
    ] = None,
    stores: Stores = None,
    no_publish: Annotated[
        bool, typer.Option("--no-publish", help="Make the parts, do not move the pointer.")
    ] = False,
    force: Annotated[
        bool, typer.Option(help="Publish against gates and holds; try failed chunks again.")
    ] = False,
    bucket: Bucket = None,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """The nightly job: do what is not done yet, and publish.

    A file that --ingest cannot ingest is left out and named, until somebody repairs or removes it.
    A release that is published without it gives exit code 4.
    """
    from ray_job.bucket.storage.patience import PATIENCE
    from ray_job.cli import output
    from ray_job.nightly.job import run_job
    from ray_job.nightly.request import RunRequest

    command = open_command(bucket, settings, as_json=as_json)
    request = RunRequest(
        as_of="current" if as_of == "current" else parse_date(as_of),
        stores=parse_stores(stores),
        publish=not no_publish,
        force=force,
        submission=os.environ.get(SUBMISSION),
    )
    with PATIENCE.limited(command.settings.run.driver_wait_seconds):
        receipt = run_job(
            command.storage(),
            command.settings,
            request,
            ingest_first=ingest_first,
            now=command.now,
            clock=time.monotonic,
            progress=command.progress,
            on_ingested=output.print_ingest_problems,
        )
    command.print_json(output.run_document(receipt))
    if not as_json:
        output.print_run(receipt)
    # Inside a RayJob another code would make KubeRay run the night again; see `ray_job.submit`.
    if request.submission is None and receipt.exit_code:
        raise typer.Exit(receipt.exit_code)
