"""The command that talks to Kubernetes: submit."""

from __future__ import annotations

from typing import Annotated

import typer

from ray_job.cli.command_context import Bucket, Json, SettingsFile, day, edge

app = typer.Typer()


@app.command()
def submit(
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of",
            help="The last date whose sales may be used (YYYY-MM-DD). Default: the day before the"
            " CronJob's scheduled date, else yesterday.",
            show_default=False,
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the run; exit with its code.")
    ] = False,
    adhoc: Annotated[
        bool, typer.Option("--adhoc", help="A run of its own that publishes nothing.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Run again, and publish against gates and holds.")
    ] = False,
    bucket: Bucket = None,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """Create the night's RayJob on Kubernetes, or find it, and wait."""
    from ray_job import submit as submitting

    here = edge(bucket, settings, as_json=as_json)
    code = submitting.submit(
        here.settings,
        here.storage() if wait else None,
        as_of=day(as_of),
        wait=wait,
        adhoc=adhoc,
        force=force,
        now=here.now,
    )
    if code:
        raise typer.Exit(code)
