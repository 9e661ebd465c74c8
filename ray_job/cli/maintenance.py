"""The commands that keep the bucket in order: rollback, restore-pointer, clean-up."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from ray_job.bucket.errors import InputError
from ray_job.cli.command_context import Bucket, Json, SettingsFile, open_command

if TYPE_CHECKING:
    from ray_job.operations.rollback import Rollback

app = typer.Typer()


@app.command()
def rollback(
    release: Annotated[
        str | None,
        typer.Argument(
            help="As `storecast releases` names it. Default: the one before the newest, once.",
            show_default=False,
        ),
    ] = None,
    bucket: Bucket = None,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """Make an earlier release the current one again.

    Publishing is held until the next night.
    """
    from ray_job.operations.rollback import rollback as roll_back

    command = open_command(bucket, settings, as_json=as_json)
    report = roll_back(command.storage(), release)
    command.print_json({**asdict(report), "changes_model": report.changes_model})
    if not as_json:
        _print_rollback(report)


def _print_rollback(report: Rollback) -> None:
    from ray_job.cli.output import print_line

    print_line(f"Release {report.release} is current, as of {report.as_of:%A %-d %B %Y}.")
    if report.repeated:
        print_line(
            "A rollback has made it current already. `storecast rollback RELEASE` goes further"
            " back; `storecast releases` lists the releases."
        )
    for name in report.abandoned:
        print_line(f"  {name} is marked as bad")
    if report.hold_through is not None:
        print_line(
            f"Publishing is held through {report.hold_through:%A %-d %B %Y}. The next night"
            " publishes again, and so does `storecast run --force`."
        )
    if report.changes_model:
        print_line(
            f"Model {report.abandoned_model_version} made the abandoned release, and model"
            f" {report.model_version} made this one. `storecast promote {report.model_version}`"
            " makes the next night use the latter."
        )


@app.command("restore-pointer")
def restore_pointer(
    release: Annotated[
        str | None,
        typer.Argument(
            help="The release that becomes current. Default: the newest that was published.",
            show_default=False,
        ),
    ] = None,
    bucket: Bucket = None,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """Make a pointer that is missing or damaged again, from releases and receipts.

    A good pointer stays as it is. See docs/restore.md.
    """
    from ray_job.cli.output import print_line
    from ray_job.publishing.restore import restore_pointer as restore

    command = open_command(bucket, settings, as_json=as_json)
    report = restore(command.storage(), command.settings, release)
    command.print_json(asdict(report))
    if as_json:
        return
    if report.repeated:
        print_line("The pointer is good, and is what releases and receipts say: it stays.")
    print_line(
        f"Release {report.release} is current, as of {report.as_of:%A %-d %B %Y};"
        f" {report.publications} publications are known again."
    )
    for name in report.abandoned:
        print_line(f"  {name} is marked as bad")
    for reason in report.unreadable:
        print_line(f"  left out: {reason}")


@app.command("clean-up")
def clean_up(
    older_than: Annotated[
        str, typer.Option("--older-than", help="An age in days, at least 7d.")
    ] = "7d",
    bucket: Bucket = None,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """Delete objects that nothing refers to, and vacuum the histories."""
    from ray_job.cli.output import print_line
    from ray_job.operations.clean_up import clean_up as delete_orphans

    command = open_command(bucket, settings, as_json=as_json)
    age = _parse_age(older_than)
    report = delete_orphans(command.storage(), command.now, age)
    command.print_json(asdict(report))
    if not as_json:
        print_line(
            f"Deleted {report.objects:,} objects ({report.bytes:,} bytes) that nothing refers to,"
            f" and {report.table_files:,} files of histories and context."
        )
        if report.leftovers:
            print_line(
                f"Deleted {report.leftovers:,} temporary files of commands that were killed."
            )
        if report.unread_releases:
            print_line(
                f"Left alone what these releases may refer to, which are damaged or gone:"
                f" {', '.join(report.unread_releases)}"
            )
        if report.foreign_files:
            print_line(
                f"Left alone {report.foreign_files:,} files that storecast did not write:"
                f" {', '.join(report.foreign_examples)}"
                f"{', …' if report.foreign_files > len(report.foreign_examples) else ''}"
            )


def _parse_age(text: str) -> timedelta:
    match = re.fullmatch(r"(\d{1,5})d", text)
    if match is None:
        raise InputError(f"--older-than {text}: an age is written in days, such as 7d")
    return timedelta(days=int(match[1]))
