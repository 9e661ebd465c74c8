"""The commands that keep the bucket in order: rollback, clean-up."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated

import typer

from ray_job.bucket.errors import InputError
from ray_job.cli import output
from ray_job.cli.command_context import Bucket, Json, SettingsFile, edge

app = typer.Typer()


@app.command()
def rollback(
    release: Annotated[
        str | None,
        typer.Argument(
            help="As `storecast releases` names it. Default: the one before the current.",
            show_default=False,
        ),
    ] = None,
    bucket: Bucket = None,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """Go back to an earlier release.

    Publishing is held until the next night.
    """
    from ray_job.operations import rollback as rolling

    here = edge(bucket, settings, as_json=as_json)
    done = rolling.rollback(here.storage(), release)
    here.tell({**asdict(done), "changes_model": done.changes_model})
    if as_json:
        return
    output.say(f"Release {done.release} is current, as of {done.as_of:%A %-d %B %Y}.")
    for name in done.abandoned:
        output.say(f"  {name} is marked as bad")
    if done.hold_through is not None:
        output.say(
            f"Publishing is held through {done.hold_through:%A %-d %B %Y}; the next night"
            " publishes, and so does `storecast run --force`."
        )
    if done.changes_model:
        output.say(
            f"The abandoned release was made by model {done.abandoned_model_version}, this one by"
            f" {done.model_version}: `storecast promote {done.model_version}` lets the next night"
            " use it, too."
        )


@app.command("clean-up")
def clean_up(
    older_than: Annotated[
        str, typer.Option("--older-than", help="An age in days, such as 7d, which is the least.")
    ] = "7d",
    bucket: Bucket = None,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """Delete what nothing reaches any more, and vacuum the histories."""
    from ray_job.operations import clean_up as cleaning

    here = edge(bucket, settings, as_json=as_json)
    age = _age(older_than)
    done = cleaning.clean_up(here.storage(), here.now, age)
    here.tell(asdict(done))
    if not as_json:
        output.say(
            f"Deleted {done.objects:,} objects ({done.bytes:,} bytes) that nothing reaches, and"
            f" {done.table_files:,} files of histories and context."
        )


def _age(text: str) -> timedelta:
    if (found := re.fullmatch(r"(\d{1,5})d", text)) is None:
        raise InputError(f"--older-than {text}: an age is written in days, such as 7d")
    return timedelta(days=int(found[1]))
