"""The commands that judge: accuracy and compare."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

import typer

from ray_job.bucket.freshness import Schedule
from ray_job.bucket.storage import Storage
from ray_job.cli import output
from ray_job.cli.command_context import AsOf, Bucket, CommandContext, Json, SettingsFile, day, edge

app = typer.Typer()

_FEW = 5


@app.command()
def accuracy(
    days: Annotated[int, typer.Option(min=1, help="How many of the last days.")] = 28,
    store: Annotated[
        str | None, typer.Option(help="One store, day by day.", show_default=False)
    ] = None,
    bucket: Bucket = None,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """How good the live forecasts have been, beside last week's number."""
    from ray_job.bucket import pointer
    from ray_job.evaluation import accuracy as judging

    here = edge(bucket, settings, as_json=as_json)
    storage = here.storage()
    current, _ = pointer.read(storage)
    scores = judging.read(storage, current, days)
    if store is not None:
        scores = scores.of(store)
    found = judging.summarise(scores)
    detail = judging.by_store(scores) if store is None else judging.day_by_day(scores)
    here.tell({"store_id": store, **found, "by_store" if store is None else "days_said": detail})
    if not as_json:
        _tell_accuracy(found, store)
        (_tell_stores if store is None else _tell_days)(detail)


@app.command()
def compare(
    first: Annotated[str, typer.Argument(help="A registered model.")],
    second: Annotated[str, typer.Argument(help="Another one.")],
    days: Annotated[int, typer.Option(min=7, help="How many of the last days.")] = 28,
    as_of: AsOf = None,
    bucket: Bucket = None,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """Two models on the same days, and whether chance explains it.

    Neither may have been trained on one of the days.
    """
    here = edge(bucket, settings, as_json=as_json)
    found = compared(here, here.storage(), first, second, days, day(as_of))
    here.tell(found)
    if not as_json:
        _tell_comparison(found)


def compared(
    here: CommandContext,
    storage: Storage,
    first: str,
    second: str,
    days: int,
    as_of: date | None = None,
) -> dict[str, Any]:
    """`compare.compare` of two registered models, with their names and the days.

    Raises InputError where there are too few days that neither was trained on.
    """
    from ray_job.backtest import compare as comparing
    from ray_job.backtest import trial
    from ray_job.data.histories import open_histories, resolve_as_of

    histories = open_histories(storage)
    models = [trial.load(storage, version) for version in (first, second)]
    schedule = Schedule(here.settings.zone, here.settings.deadline)
    last = resolve_as_of(as_of, histories, schedule, here.now)
    begin, last = comparing.common_days(models[0], models[1], last, days)
    rows = [
        trial.run(
            storage,
            here.settings,
            histories,
            model,
            begin,
            last,
            trial.Conditions(),
            here.progress,
        ).result.rows
        for model in models
    ]
    found = comparing.compare(rows[0], rows[1])
    return {"models": [first, second], "from": str(begin), "to": str(last), **found}


def _tell_comparison(found: dict[str, Any]) -> None:
    one, other = found["models"]
    test = found["test"]
    output.say(
        f"{test['days']} days from {found['from']} to {found['to']}, one day ahead:"
        f" {one} is off by {found['first']['wape']:.2%} of sales, {other} by"
        f" {found['second']['wape']:.2%}; {other} was nearer on {test['days_better']} days."
    )
    chance = f"p = {test['p_value']:.3f}; difference {test['low']:+.2%} to {test['high']:+.2%}"
    if found["better"] is None:
        output.say(f"That may be chance ({chance}).")
    else:
        output.say(f"{other if found['better'] == 'second' else one} is better ({chance}).")
    output.table(
        ("days ahead", "rows", f"wape {one}", f"wape {other}", "difference", "p"),
        [
            (
                int(ahead),
                row["first"]["rows"],
                row["first"]["wape"],
                row["second"]["wape"],
                row["test"]["difference"],
                row["test"]["p_value"],
            )
            for ahead, row in found["by_days_ahead"].items()
        ],
    )


def _tell_accuracy(found: dict[str, Any], store: str | None) -> None:
    whose = f"Store {store}" if store else f"{found['stores']:,} stores"
    span = f"{whose}, {found['first']:%-d %B} to {found['last']:%-d %B %Y}"
    if not found["rows"]:
        output.say(f"{span}: nothing but closed days.")
        return
    off = _percent(found["wape"])
    line = f"{span}: ±{off}, inside the 80 % interval on {_percent(found['coverage_80'])} of days"
    if found["days"]:
        line += (
            f"; better than last week's number (±{_percent(found['naive_wape'])})"
            f" on {found['better_days']} of {found['days']} days"
        )
    output.say(f"{line}.")
    if found["days_without"]:
        output.say(f"Nothing was scored of {_spans(found['days_without'])}.")
    output.table(
        ("days ahead", "forecasts", "off by", "bias", "inside 80 %"),
        [
            (int(ahead), row["rows"], *_percents(row, "wape", "bias", "coverage_80"))
            for ahead, row in found["by_days_ahead"].items()
        ],
    )
    if store is None:
        output.table(
            ("day", "stores", "off by", "bias", "inside 80 %", "last week's number"),
            [
                (
                    row["target_date"],
                    row["rows"],
                    *_percents(row, "wape", "bias", "coverage_80", "naive_wape"),
                )
                for row in found["by_day"]
            ],
        )


def _tell_stores(stores: list[dict[str, Any]]) -> None:
    columns = ("days", "off by", "bias", "inside 80 %", "last week's number")
    few = min(_FEW, len(stores) // 2)
    for title, rows in (("worst", stores[:few]), ("best", stores[::-1][:few])):
        if rows:
            output.table(
                (f"{title} stores", *columns),
                [
                    (
                        row["store_id"],
                        row["rows"],
                        *_percents(row, "wape", "bias", "coverage_80", "naive_wape"),
                    )
                    for row in rows
                ],
            )


def _tell_days(days: list[dict[str, Any]]) -> None:
    output.table(
        ("day", "days ahead", "forecast", "80 % from", "to", "sold", "off by", "", "week before"),
        [
            (
                row["target_date"],
                row["days_ahead"],
                row["predicted"],
                row["lower_80"],
                row["upper_80"],
                row["actual"],
                _percent(row["error"] / row["actual"]) if row["actual"] > 0 else "–",
                "inside" if row["inside"] else "outside",
                row["naive"],
            )
            for row in days
        ],
    )


def _spans(days: list[date]) -> str:
    """Days in a row told by the first and the last of them."""
    spans: list[list[date]] = []
    for one in days:
        if spans and (one - spans[-1][-1]).days == 1:
            spans[-1].append(one)
        else:
            spans.append([one])
    return ", ".join(
        f"{span[0]:%-d %b}" + (f" to {span[-1]:%-d %b}" if len(span) > 1 else "") for span in spans
    )


def _percents(row: dict[str, Any], *names: str) -> list[str]:
    return [_percent(row[name]) for name in names]


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"
