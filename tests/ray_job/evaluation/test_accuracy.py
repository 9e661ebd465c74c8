"""The scores read back: figures by day, by days ahead and by store, and the command."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from ray_job.__main__ import app
from ray_job.bucket import pointer
from ray_job.bucket.errors import InputError
from ray_job.bucket.pointer import Pointer, Published
from ray_job.bucket.scores import SCORES_SCHEMA
from ray_job.bucket.storage import open_bucket
from ray_job.evaluation import accuracy, scoring

DAY = timedelta(days=1)
FIRST = date(2026, 3, 2)


def row(store, target, ahead, predicted, actual, naive=100.0, spread=10.0):
    return {
        "store_id": store,
        "as_of": target - ahead * DAY,
        "days_ahead": ahead,
        "predicted": predicted,
        "lower_80": max(predicted - spread, 0.0),
        "upper_80": predicted + spread if predicted else 0.0,
        "actual": actual,
        "naive": naive,
        "run_id": "r",
    }


def day(target, errors):
    """Two stores that each sold 100, forecast one and two days ahead; a third one is closed."""
    rows = [row("c", target, ahead, 0.0, 0.0, 0.0) for ahead in (2, 1)]
    for store, (one_ahead, two_ahead) in zip("ab", errors, strict=True):
        rows += [
            row(store, target, 2, 100.0 + two_ahead, 100.0, 120.0),
            row(store, target, 1, 100.0 + one_ahead, 100.0, 120.0),
        ]
    rows.sort(key=lambda score: (score["store_id"], score["as_of"]))
    return pa.Table.from_pylist(rows, SCORES_SCHEMA)


@pytest.fixture
def storage(tmp_path):
    return open_bucket(str(tmp_path))


@pytest.fixture
def current(storage):
    """Three days; the second one was never scored."""
    scores = {
        FIRST: day(FIRST, [(5.0, 20.0), (-10.0, 40.0)]),
        FIRST + 2 * DAY: day(FIRST + 2 * DAY, [(30.0, 30.0), (-20.0, 50.0)]),
    }
    entry = Published(
        release="r",
        sha256="0" * 64,
        as_of=FIRST + 2 * DAY,
        run_id="run",
        published_at=datetime(2026, 3, 5, tzinfo=UTC),
    )
    scored = Pointer(current="r", history=(entry,), accuracy=scoring.write(storage, scores, "run"))
    return pointer.move(storage, lambda _: scored)


def test_figures_are_those_of_the_newest_forecasts(storage, current):
    summary = accuracy.summarise(accuracy.read(storage, current, 28))
    assert summary["rows"] == 4
    assert summary["stores"] == 2
    assert summary["wape"] == pytest.approx((5 + 10 + 30 + 20) / 400)
    assert summary["bias"] == pytest.approx((5 - 10 + 30 - 20) / 400)
    assert summary["coverage_80"] == pytest.approx(0.5)
    assert summary["naive_wape"] == pytest.approx(0.2)
    assert summary["by_days_ahead"]["2"]["wape"] == pytest.approx(140 / 400)


def test_each_day_is_compared_with_last_weeks_number(storage, current):
    summary = accuracy.summarise(accuracy.read(storage, current, 28))
    assert (summary["better_days"], summary["days"]) == (1, 2)
    assert [day["wape"] for day in summary["by_day"]] == pytest.approx([0.075, 0.25])


def test_days_without_scores_are_named(storage, current):
    summary = accuracy.summarise(accuracy.read(storage, current, 3))
    assert summary["days_without"] == [FIRST + DAY]
    assert accuracy.summarise(accuracy.read(storage, current, 1))["by_day"][0]["wape"] == 0.25


def test_closed_days_are_left_out(storage, current):
    closed = accuracy.read(storage, current, 3).of("c")
    summary = accuracy.summarise(closed)
    assert summary["rows"] == 0
    assert summary["coverage_80"] is None
    assert summary["days_without"] == [FIRST + DAY]


def test_last_weeks_number_may_be_unknown(storage):
    rows = [row("a", FIRST, 1, 110.0, 100.0, float("nan"))]
    scores = {FIRST: pa.Table.from_pylist(rows, SCORES_SCHEMA)}
    current = Pointer(accuracy=scoring.write(storage, scores, "run"))
    scored = accuracy.read(storage, current, 28)
    summary = accuracy.summarise(scored)
    assert summary["naive_wape"] is None
    assert (summary["better_days"], summary["days"]) == (0, 0)
    assert accuracy.day_by_day(scored)[0]["naive"] is None


def test_stores_are_sorted_by_error_the_largest_first(storage, current):
    stores = accuracy.by_store(accuracy.read(storage, current, 28))
    assert [store["store_id"] for store in stores] == ["a", "b"]
    assert [store["wape"] for store in stores] == pytest.approx([0.175, 0.15])


def test_a_store_day_by_day(storage, current):
    days = accuracy.day_by_day(accuracy.read(storage, current, 28).of("b"))
    assert [(day["days_ahead"], day["error"], day["inside"]) for day in days] == [
        (1, -10.0, True),
        (1, -20.0, False),
    ]


def test_an_unknown_store_is_refused(storage, current):
    with pytest.raises(InputError, match="zzz"):
        accuracy.read(storage, current, 28).of("zzz")


def test_a_bucket_without_scores_is_refused(storage):
    with pytest.raises(InputError, match="no forecast was scored yet"):
        accuracy.read(storage, Pointer(), 28)


@pytest.mark.usefixtures("current")
def test_the_command(tmp_path):
    runner = CliRunner()
    whole = runner.invoke(app, ["accuracy", "--bucket", str(tmp_path)])
    assert whole.exit_code == 0
    assert "±16.2 %" in whole.output
    assert "better than last week's number (±20.0 %) on 1 of 2 days" in whole.output
    assert "There are no scores of 5 Feb to 1 Mar, 3 Mar." in whole.output
    single = runner.invoke(app, ["accuracy", "--bucket", str(tmp_path), "--store", "b"])
    assert "outside" in single.output
    closed = runner.invoke(app, ["accuracy", "--bucket", str(tmp_path), "--store", "c"])
    assert "nothing but closed days" in closed.output
    document = json.loads(
        runner.invoke(app, ["accuracy", "--bucket", str(tmp_path), "--json"]).stdout
    )
    assert document["by_store"][0]["store_id"] == "a"
    assert document["wape"] == pytest.approx(0.1625)
