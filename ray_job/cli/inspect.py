"""The commands that only read: releases and explain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ray_job.cli.command_context import AsOf, Bucket, Json, SettingsFile, open_command, parse_date

if TYPE_CHECKING:
    from datetime import tzinfo

    from ray_job.operations.release_list import ListedRelease, PublicationList

app = typer.Typer()

_COUNTS = ("ok", "closed", "fallback", "failed", "no_data", "carried")


@app.command()
def releases(
    last: Annotated[int, typer.Option(min=1, help="How many of the newest.")] = 14,
    bucket: Bucket = None,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """List the publications, newest first, with figures of their receipts."""
    from ray_job.operations.release_list import list_releases

    command = open_command(bucket, settings, as_json=as_json)
    listing = list_releases(command.storage(), last)
    command.print_json(
        {
            "hold_through": listing.hold_through,
            "releases": [release.document() for release in listing.releases],
        }
    )
    if not as_json:
        _print_releases(listing, command.settings.zone)


def _print_releases(listing: PublicationList, zone: tzinfo) -> None:
    from ray_job.cli import output

    output.print_table(
        ("release", "as of", "published at", "", *_COUNTS, "seconds", "warnings"),
        [
            (
                release.published.release,
                release.published.as_of,
                release.published.published_at.astimezone(zone),
                _state(release),
                *_receipt_cells(release.receipt),
            )
            for release in listing.releases
        ],
    )
    if listing.hold_through:
        output.print_line(f"Publishing is held through {listing.hold_through}.")


def _state(release: ListedRelease) -> str:
    if release.current:
        return "current"
    if release.bad:
        return "marked bad"
    return "stands for its as-of" if release.live_for_its_as_of else "replaced"


def _receipt_cells(receipt: dict[str, Any] | None) -> list[Any]:
    if receipt is None:
        return ["–"] * (len(_COUNTS) + 1) + ["no receipt"]
    counts = [receipt["stores"][name] for name in _COUNTS]
    return [*counts, receipt["seconds"], "; ".join(receipt["warnings"])]


@app.command()
def explain(
    store: Annotated[str, typer.Argument(help="A store id.")],
    as_of: AsOf = None,
    bucket: Bucket = None,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """Where a store's number comes from, or why it has none."""
    from ray_job.operations.explain import explain as explain_store

    command = open_command(bucket, settings, as_json=as_json)
    explanation = explain_store(
        command.storage(), command.settings, store, parse_date(as_of), command.now
    )
    command.print_json(explanation)
    if not as_json:
        _print_explanation(explanation)


def _print_explanation(explanation: dict[str, Any]) -> None:
    from ray_job.cli.output import cell, print_table

    print_table(
        ("", ""),
        [
            (name.replace("_", " "), cell(value))
            for name, value in explanation.items()
            if not isinstance(value, list | dict) and value is not None
        ],
    )
    for key, headings, columns in (
        (
            "unpublished_runs",
            ("not published", "as of", "", "why"),
            ("run_id", "as_of", "status", "message"),
        ),
        (
            "days",
            ("day", "forecast", "80 % from", "to", "method", "not delivered"),
            ("target_dates", "predicted", "lower_80", "upper_80", "method", "missing"),
        ),
        ("parts", ("part", "first row", "rows"), ("part", "first_row", "rows")),
        (
            "input_files",
            ("input file", "rows", "first date", "last date"),
            ("key", "rows", "first_date", "last_date"),
        ),
    ):
        rows = explanation[key]
        if rows:
            print_table(headings, [[row[column] for column in columns] for row in rows])
