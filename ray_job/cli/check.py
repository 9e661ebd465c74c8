"""The command that checks new data before anything is brought in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ray_job.bucket.keys import CONTEXT_KINDS
from ray_job.cli.command_context import Json, SettingsFile, open_command

if TYPE_CHECKING:
    from ray_job.ingest.checking import CheckReport, FileCheck

REFUSED = 2
"""The exit code if an ingest would refuse a file."""

app = typer.Typer()


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Files or directories.")],
    kind: Annotated[
        str | None,
        typer.Option(
            help=f"What the FILEs are: {', '.join(('sales', *CONTEXT_KINDS))}.",
            show_default="by their headers",
        ),
    ] = None,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """Say what an ingest of files would say, what looks odd, and settings that fit.

    Brings nothing in. Ends with exit code 2 if an ingest would refuse one of the files.
    """
    from ray_job.ingest.checking import check_files

    command = open_command(None, settings, as_json=as_json)
    report = check_files(
        command.settings, files, kind=kind, now=command.now, progress=command.progress
    )
    command.print_json(asdict(report) | {"refused": report.is_refused})
    if not as_json:
        _print(report)
    if report.is_refused:
        raise typer.Exit(REFUSED)


def _print(report: CheckReport) -> None:
    from ray_job.cli.output import print_line, print_table

    print_table(
        ("file", "kind", "rows", "stores", "items", "first day", "last day"),
        [
            (file.name, file.kind, file.rows, file.stores, file.items, *_days(file))
            for file in report.files
        ],
    )
    _print_list("An ingest would refuse:", _sentences(report, "refused"))
    _print_list("What looks odd:", report.odd)
    if report.changes_settings:
        print_line("Settings that fit these files (save them and give them with --settings):")
        for line in report.settings.splitlines():
            print_line(f"  {line}")
        _print_list(
            "With these settings it would still refuse:", _sentences(report, "still_refused")
        )
    if not report.is_refused:
        print_line("An ingest would bring in all files.")


def _sentences(report: CheckReport, name: str) -> list[str]:
    return [f"{file.name}: {each}" for file in report.files for each in getattr(file, name)]


def _print_list(title: str, sentences: Sequence[str]) -> None:
    from ray_job.cli.output import print_line

    if sentences:
        print_line(title)
    for sentence in sentences:
        print_line(f"  {sentence}")


def _days(file: FileCheck) -> tuple[str, str]:
    return (str(file.first_date or "–"), str(file.last_date or "–"))
