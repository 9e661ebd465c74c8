"""The night's commands: ingest, plan, run."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace as replace_fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ray_job.bucket.receipts import Receipt
from ray_job.bucket.storage import Storage
from ray_job.cli import output
from ray_job.cli.command_context import (
    AsOf,
    Bucket,
    CommandContext,
    Json,
    SettingsFile,
    Stores,
    day,
    edge,
    listed,
)
from ray_job.events import emit
from ray_job.ingest import KINDS
from ray_job.nightly.prepare import RunRequest

if TYPE_CHECKING:
    from ray_job.execution.executor import Executor
from ray_job.forecasting.task import ChunkResult, RunSpec, Task

SUBMISSION = "STORECAST_SUBMISSION"
"""Names the RayJob that this process runs in; see `ray_job.submit`."""

app = typer.Typer()


@app.command()
def ingest(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE]…", help="Copied into raw_data/ first.", show_default=False),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(help=f"What the FILEs are: {', '.join(KINDS)}.", show_default="sales"),
    ] = None,
    replace: Annotated[
        bool,
        typer.Option(help="The FILEs take their stores' earlier rows of their dates out."),
    ] = False,
    bucket: Bucket = None,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """Bring every new raw file in.

    All of them in one commit, each file once; a bad one leaves everything as it is.
    """
    from ray_job import ingest as ingesting

    here = edge(bucket, settings, as_json=as_json)
    report = ingesting.ingest(
        here.storage(create=bool(files)),
        here.settings,
        files or (),
        kind=kind,
        replace=replace,
        now=here.now,
        progress=here.progress,
    )
    here.tell(output.plain(report))
    if not as_json:
        output.tell_ingest(report)


@app.command()
def plan(
    as_of: AsOf = None,
    stores: Stores = None,
    bucket: Bucket = None,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """Print the chunks of a run, without running it."""
    from ray_job.nightly.prepare import prepare

    here = edge(bucket, settings, as_json=as_json)
    request = RunRequest(as_of=day(as_of), stores=listed(stores))
    run_plan = prepare(here.storage(), here.settings, request, here.now)
    attempts = here.settings.run.attempts_per_as_of
    chunks = [
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
    here.tell({"as_of": run_plan.as_of.isoformat(), "chunks": chunks})
    if not as_json:
        output.tell_plan(run_plan.as_of, chunks)


@app.command()
def run(
    ingest_first: Annotated[
        bool, typer.Option("--ingest", help="Bring new raw files in first.")
    ] = False,
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
        bool, typer.Option("--no-publish", help="Make the parts, leave the pointer alone.")
    ] = False,
    force: Annotated[
        bool, typer.Option(help="Publish against gates and holds; try failed chunks again.")
    ] = False,
    bucket: Bucket = None,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """The nightly job: do what is not done yet, and publish.

    A file that --ingest cannot bring in is left out and named, until it is mended or removed; what
    is published without it ends with exit code 4.
    """
    here = edge(bucket, settings, as_json=as_json)
    storage = here.storage()
    request = RunRequest(
        as_of="current" if as_of == "current" else day(as_of),
        stores=listed(stores),
        publish=not no_publish,
        force=force,
        submission=os.environ.get(SUBMISSION),
    )
    if ingest_first:
        from ray_job import ingest as ingesting

        # The hourly run never compacts: new names of files would make new chunks of old data.
        night = None if request.as_of == "current" else request.as_of or here.yesterday
        report = ingesting.ingest(
            storage,
            here.settings,
            now=here.now,
            compact=None if night is None else ingesting.CompactScope(night),
            leave_out_bad=True,
            progress=here.progress,
        )
        untidy = "INFO" if report.not_compacted is None else "WARNING"
        emit("ingest_finished", severity="ERROR" if report.bad else untidy, **output.plain(report))
        if report.not_compacted is not None:
            sys.stderr.write(f"storecast: not compacted: {report.not_compacted}\n")
        for one in report.bad:
            sys.stderr.write(f"storecast: {one.reason}\n")
        request = replace_fields(request, bad_deliveries=report.bad)
    receipt = execute(here, storage, request)
    here.tell(
        receipt.model_dump(mode="json", include=output.RUN_FIELDS)
        | {"stores": receipt.stores.model_dump()}
    )
    if not as_json:
        output.tell_run(receipt)
    if request.submission is None and receipt.exit_code:
        raise typer.Exit(receipt.exit_code)


class _Ray:
    """Ray, from the first task on: what is wrong with a request, and that there is nothing to do,
    is said without starting it."""

    def __init__(self, until: ExitStack) -> None:
        self._until = until
        self._executor: Executor | None = None

    def run(self, tasks: Sequence[Task], spec: RunSpec) -> Iterator[ChunkResult]:
        if self._executor is None:
            from ray_job.datasets import cluster, executor

            self._until.enter_context(cluster.cluster())
            self._executor = executor.RayExecutor()
        yield from self._executor.run(tasks, spec)


def execute(here: CommandContext, storage: Storage, request: RunRequest) -> Receipt:
    """Run on Ray, and tell the event that monitoring listens to."""
    from ray_job.nightly.run import run as running

    with ExitStack() as until:
        receipt = running(
            storage,
            here.settings,
            request,
            _Ray(until),
            now=here.now,
            clock=time.monotonic,
            progress=here.progress,
        )
    emit(
        "run_finished",
        severity=_severity(receipt),
        sentence=output.run_sentence(receipt),
        status=receipt.status,
        seconds=receipt.seconds,
        exit_code=receipt.exit_code,
        as_of=receipt.as_of.isoformat(),
        run_id=receipt.run_id,
        release=receipt.release,
        stores=receipt.stores.model_dump(),
        bad_deliveries=[one.reason for one in receipt.bad_deliveries],
        late_share=receipt.stores.late / max(receipt.stores.expected, 1),
        **_sanity(receipt),
    )
    return receipt


def _severity(receipt: Receipt) -> str:
    if receipt.exit_code:
        return "ERROR"
    return "WARNING" if receipt.drift is not None and receipt.drift.warnings else "INFO"


def _sanity(receipt: Receipt) -> dict[str, Any]:
    """What alerts and log-based metrics look at, flat; the receipt has it by region."""
    found = receipt.drift
    if found is None:
        return {}
    cost = receipt.cost
    return {
        "silent_stores": found.silent,
        "silent_share": found.silent_share,
        "carried_share": found.carried_share,
        "fallback_share": found.fallback_share,
        "missing_weather_share": found.missing_weather_share,
        "forecast_to_usual": found.total.ratio,
        "regions": {
            level.region: level.ratio for level in found.regions if level.ratio is not None
        },
        "warnings": found.warnings,
        "cpu_seconds": receipt.cpu_seconds,
        "cost_per_1000_stores": None if cost is None else cost.per_1000_stores,
    }
