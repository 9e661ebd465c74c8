"""The command that calls Kubernetes: submit."""

from __future__ import annotations

from typing import Annotated

import typer

from ray_job.cli.command_context import Bucket, Json, SettingsFile, open_command, parse_date

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
        bool, typer.Option("--adhoc", help="A separate run that publishes nothing.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Run again, and publish against gates and holds.")
    ] = False,
    bucket: Bucket = None,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """Create or find the night's RayJob on Kubernetes, and wait for it."""
    from ray_job.submit import submit as submit_run

    command = open_command(bucket, settings, as_json=as_json)
    code = submit_run(
        command.settings,
        command.storage if wait else None,
        as_of=parse_date(as_of),
        wait=wait,
        adhoc=adhoc,
        force=force,
        now=command.now,
    )
    if code:
        raise typer.Exit(code)
