"""The commands that look and change nothing: releases, explain, accuracy."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ray_job.commands import telling
from ray_job.commands.edge import AsOf, Bucket, Json, SettingsFile, day, edge

app = typer.Typer()


@app.command()
def releases(bucket: Bucket = None, settings: SettingsFile = None, as_json: Json = False) -> None:
    """The publications that the pointer remembers, newest first."""
    from ray_job.bucket import pointer

    here = edge(bucket, settings, as_json=as_json)
    current, _ = pointer.read(here.storage())
    rows = [
        {
            **entry.model_dump(mode="json"),
            "current": entry.release == current.current,
            "live_for_its_as_of": current.dates.get(entry.as_of) == entry.release,
            "bad": entry.release in current.bad,
        }
        for entry in current.history
    ]
    here.tell({"hold_through": current.hold_through, "releases": rows})
    if not as_json:
        marks = (
            ("current", "current"),
            ("bad", "marked bad"),
            ("live_for_its_as_of", "stands for its as-of"),
        )
        telling.table(
            ("release", "as of", "published at", ""),
            [
                (
                    row["release"],
                    row["as_of"],
                    row["published_at"],
                    next((text for name, text in marks if row[name]), "replaced"),
                )
                for row in rows
            ],
        )
        if current.hold_through:
            telling.say(f"Publishing is held through {current.hold_through}.")


@app.command()
def explain(
    store: Annotated[str, typer.Argument(help="A store id.")],
    as_of: AsOf = None,
    bucket: Bucket = None,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """Where a store's number comes from, or why it has none."""
    from ray_job import explain as explaining

    here = edge(bucket, settings, as_json=as_json)
    told = explaining.explain(here.storage(), here.settings, store, day(as_of), here.now)
    here.tell(told)
    if not as_json:
        _tell(told)


def _tell(told: dict[str, Any]) -> None:
    simple = [
        (name.replace("_", " "), telling.cell(value))
        for name, value in told.items()
        if not isinstance(value, list | dict) and value is not None
    ]
    telling.table(("", ""), simple)
    if told["unpublished_runs"]:
        runs = _picked(told["unpublished_runs"], ("run_id", "as_of", "status", "message"))
        telling.table(("not published", "as of", "", "why"), runs)
    if told["days"]:
        telling.table(
            ("day", "forecast", "80 % from", "to", "method", "not delivered"),
            _picked(
                told["days"],
                ("target_dates", "predicted", "lower_80", "upper_80", "method", "missing"),
            ),
        )
    if told["parts"]:
        parts = _picked(told["parts"], ("part", "first_row", "rows"))
        telling.table(("part", "first row", "rows"), parts)
    if told["input_files"]:
        files = _picked(told["input_files"], ("key", "rows", "first_date", "last_date"))
        telling.table(("input file", "rows", "first date", "last date"), files)


def _picked(rows: list[dict[str, Any]], names: tuple[str, ...]) -> list[list[Any]]:
    return [[row[name] for name in names] for row in rows]
