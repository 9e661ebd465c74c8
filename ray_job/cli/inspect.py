"""The commands that look and change nothing: releases and explain."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ray_job.cli import output
from ray_job.cli.command_context import AsOf, Bucket, Json, SettingsFile, day, edge

if TYPE_CHECKING:
    from ray_job.bucket.pointer import Published
    from ray_job.bucket.storage import Storage

app = typer.Typer()


@app.command()
def releases(
    last: Annotated[int, typer.Option(min=1, help="How many of the newest.")] = 14,
    bucket: Bucket = None,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """The publications, newest first, with what their receipts say."""
    from ray_job.bucket import pointer

    here = edge(bucket, settings, as_json=as_json)
    storage = here.storage()
    current, _ = pointer.read(storage)
    shown = current.history[:last]
    rows = [
        {
            **entry.model_dump(mode="json"),
            "current": entry.release == current.current,
            "live_for_its_as_of": current.dates.get(entry.as_of) == entry.release,
            "bad": entry.release in current.bad,
            "receipt": receipt,
        }
        for entry, receipt in zip(shown, _receipts(storage, shown), strict=True)
    ]
    here.tell({"hold_through": current.hold_through, "releases": rows})
    if not as_json:
        output.table(
            ("release", "as of", "published at", "", *_COUNTS, "seconds", "look at this"),
            [
                (
                    entry.release,
                    entry.as_of,
                    entry.published_at.astimezone(here.settings.zone),
                    next((text for name, text in _MARKS if row[name]), "replaced"),
                    *_counted(row["receipt"]),
                )
                for entry, row in zip(shown, rows, strict=True)
            ],
        )
        if current.hold_through:
            output.say(f"Publishing is held through {current.hold_through}.")


_MARKS = (
    ("current", "current"),
    ("bad", "marked bad"),
    ("live_for_its_as_of", "stands for its as-of"),
)
_COUNTS = ("ok", "closed", "fallback", "failed", "no_data", "carried")
_CONCURRENCY = 8


def _receipts(storage: Storage, shown: Sequence[Published]) -> list[dict[str, Any] | None]:
    """What matters of the runs' receipts; None where one is gone or was never written."""
    from ray_job.bucket import receipts
    from ray_job.bucket.errors import NotFoundError

    def read(entry: Published) -> dict[str, Any] | None:
        try:
            found = receipts.read(storage, entry.as_of, entry.run_id)
        except NotFoundError:
            return None
        chosen = {"status", "forced", "hindsight", "stores", "seconds", "cpu_seconds", "cost"}
        told = found.model_dump(mode="json", include=chosen | {"model_version", "revision"})
        return {**told, "warnings": () if found.drift is None else found.drift.warnings}

    with ThreadPoolExecutor(_CONCURRENCY) as pool:
        return list(pool.map(read, shown))


def _counted(receipt: dict[str, Any] | None) -> list[Any]:
    if receipt is None:
        return ["–"] * (len(_COUNTS) + 1) + ["no receipt"]
    stores = [receipt["stores"][name] for name in _COUNTS]
    return [*stores, receipt["seconds"], "; ".join(receipt["warnings"])]


@app.command()
def explain(
    store: Annotated[str, typer.Argument(help="A store id.")],
    as_of: AsOf = None,
    bucket: Bucket = None,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """Where a store's number comes from, or why it has none."""
    from ray_job.operations import explain as explaining

    here = edge(bucket, settings, as_json=as_json)
    told = explaining.explain(here.storage(), here.settings, store, day(as_of), here.now)
    here.tell(told)
    if not as_json:
        _tell(told)


def _tell(told: dict[str, Any]) -> None:
    simple = [
        (name.replace("_", " "), output.cell(value))
        for name, value in told.items()
        if not isinstance(value, list | dict) and value is not None
    ]
    output.table(("", ""), simple)
    if told["unpublished_runs"]:
        runs = _picked(told["unpublished_runs"], ("run_id", "as_of", "status", "message"))
        output.table(("not published", "as of", "", "why"), runs)
    if told["days"]:
        output.table(
            ("day", "forecast", "80 % from", "to", "method", "not delivered"),
            _picked(
                told["days"],
                ("target_dates", "predicted", "lower_80", "upper_80", "method", "missing"),
            ),
        )
    if told["parts"]:
        parts = _picked(told["parts"], ("part", "first_row", "rows"))
        output.table(("part", "first row", "rows"), parts)
    if told["input_files"]:
        files = _picked(told["input_files"], ("key", "rows", "first_date", "last_date"))
        output.table(("input file", "rows", "first date", "last date"), files)


def _picked(rows: list[dict[str, Any]], names: tuple[str, ...]) -> list[list[Any]]:
    return [[row[name] for name in names] for row in rows]
