from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from ray_job.backtest import backtest
from ray_job.backtest.series_kinds import by_kind, totals, weeks
from ray_job.bucket.errors import InputError
from ray_job.data.panel import Panel
from ray_job.evaluation.metrics import measures
from ray_job.features.naive import RULES, naive_forecasts
from ray_job.features.past import summarise_sales
from ray_job.forecasting.predict import predict_days
from ray_job.model.examples import scored
from ray_job.settings import Settings
from tests.support import panels

PANEL = panels.panel(stores=10, days=240)
CONTEXT = panels.context(PANEL)
TRAINED = PANEL.first_day + timedelta(days=209)
FIRST, LAST = TRAINED + timedelta(days=1), TRAINED + timedelta(days=20)
SETTINGS = Settings(
    training={"rows": 4000, "trees": 20, "leaves": 15, "calibration_days": 28}, lookback_days=150
)


@pytest.fixture(scope="module")
def model():
    return panels.fitted_model(PANEL, CONTEXT, SETTINGS, TRAINED)


@pytest.fixture(scope="module")
def result(model):
    return backtest(PANEL, FIRST, LAST, CONTEXT, model, SETTINGS)


def test_every_day_that_counts_is_forecast_from_each_of_the_days_before(result):
    columns = [PANEL.column(FIRST) + day for day in range(20)]
    expected = int(scored(PANEL)[:, columns].sum())
    ahead = result.rows["days_ahead"].to_numpy()
    assert {int(days): int((ahead == days).sum()) for days in set(ahead)} == dict.fromkeys(
        range(1, 8), expected
    )


def test_the_rows_are_the_forecasts_of_the_nightly_run(model, result):
    as_of = FIRST + timedelta(days=4)
    targets = [as_of + timedelta(days=ahead) for ahead in range(1, 8)]
    night = predict_days(PANEL, as_of, targets, CONTEXT, model, SETTINGS)
    frame = result.rows.to_pandas()
    for row in frame[frame["as_of"] == as_of].itertuples():
        series = list(PANEL.store_ids).index(row.store_id)
        place = targets.index(row.target_date)
        assert night.predicted[series, place] == row.predicted
        assert night.upper[series, place] == row.calibrated_upper
        assert PANEL.sales[series, PANEL.column(row.target_date)] in (row.actual, -abs(row.actual))


def test_the_report_has_the_documented_fields(result):
    report = result.report()
    assert set(report) >= {"rows", "rmspe", "wape", "mae", "bias", "coverage_80"}
    assert set(report["by_days_ahead"]) == {str(days) for days in range(1, 8)}
    assert report["by_days_ahead"]["1"]["wape"] == report["wape"]
    assert set(report["naive"]) == set(RULES)
    assert set(report["naive"]["last_open_day"]) == {"rmspe", "wape", "bias", "rmsse"}
    assert report["wape"] < report["naive"]["same_weekday_last_week"]["wape"]


def test_kinds_totals_and_weeks_are_measured(model, result):
    frame = result.rows.to_pandas()
    first = frame[frame["days_ahead"] == 1]
    kinds = by_kind(result.rows)
    assert sum(row["rows"] for row in kinds.values()) == len(first)
    assert set(kinds) == set(first["kind"])
    for kind, row in kinds.items():
        of_kind = first[first["kind"] == kind]
        assert row["wape"] == pytest.approx(
            (of_kind["predicted"] - of_kind["actual"]).abs().sum() / of_kind["actual"].sum()
        )
        assert sum(row["methods"].values()) == row["rows"]
        assert row["naive_rmsse"] > 0
    assert totals(result.rows, model.description.intervals) == {}  # each store is one series
    assert sum(week["rows"] for week in weeks(result.rows)) == len(first)
    assert [week["first"] for week in weeks(result.rows)][:2] == [
        str(FIRST),
        str(FIRST + timedelta(days=7)),
    ]


def test_the_total_of_a_store_is_the_sum_of_its_items():
    panel = panels.panel(stores=4, items=5, days=240)
    context = panels.context(panel)
    model = panels.fitted_model(panel, context, SETTINGS, TRAINED)
    rows = backtest(panel, FIRST, LAST, context, model, SETTINGS).rows
    by_days = totals(rows, model.description.intervals)
    frame = rows.to_pandas()
    ahead = frame[frame["days_ahead"] == 7]
    sums = ahead.groupby(["store_id", "target_date"])[["actual", "predicted"]].sum()
    assert by_days["7"]["rows"] == len(sums)
    assert by_days["7"]["wape"] == pytest.approx(
        (sums["predicted"] - sums["actual"]).abs().sum() / sums["actual"].sum()
    )
    assert 0.5 < by_days["1"]["coverage_80"] <= 1
    assert set(by_kind(rows)) == {"short"}
    assert by_days["1"]["wape"] < by_kind(rows)["short"]["wape"]


def test_late_sales_are_withheld_from_the_forecast(model, result):
    blank = PANEL.sales.copy()
    as_of = FIRST + timedelta(days=4)
    blank[:, PANEL.column(as_of) - 1 : PANEL.column(as_of) + 1] = np.nan
    targets = [as_of + timedelta(days=1)]
    expected = predict_days(replace(PANEL, sales=blank), as_of, targets, CONTEXT, model, SETTINGS)
    late = backtest(PANEL, FIRST, LAST, CONTEXT, model, SETTINGS, late=2).rows.to_pandas()
    night = late[(late["as_of"] == as_of) & (late["days_ahead"] == 1)]
    rows = [list(PANEL.store_ids).index(store) for store in night["store_id"]]
    assert night["predicted"].tolist() == expected.predicted[rows, 0].tolist()
    assert not np.array_equal(late["predicted"], result.rows["predicted"].to_numpy())


def test_days_of_the_training_are_refused(model):
    with pytest.raises(InputError, match="was trained on days up to"):
        backtest(PANEL, TRAINED, LAST, CONTEXT, model, SETTINGS)


def test_measures():
    measured = measures(
        np.array([100.0, 0.0, 50.0, 10.0]),
        np.array([110.0, 5.0, 40.0, np.nan]),
        np.array([90.0, 0.0, 45.0, np.nan]),
        np.array([120.0, 9.0, 60.0, np.nan]),
        np.array([10.0, 0.0, 5.0, 5.0]),
    )
    assert measured == pytest.approx(
        {
            "rows": 4,
            "rmspe": None,  # a third of the days has no sales
            "wape": 25 / 150,
            "mae": 25 / 3,
            "bias": 5 / 150,
            "coverage_80": 1.0,
            "width_80": (30 + 9 + 15) / 150,
            "pinball_80": (0.1 * (10 + 0 + 5) + 0.1 * (20 + 9 + 10)) / 150,
            "rmsse": np.sqrt((1**2 + 2**2) / 2),
        }
    )
    both = measures(np.array([100.0, 50.0]), np.array([110.0, 40.0]))
    assert both["rmspe"] == pytest.approx(np.sqrt((0.1**2 + 0.2**2) / 2))
    assert measures(np.array([]), np.array([]))["wape"] is None


def test_naive_rules_by_hand():
    days = 70
    sales = 100.0 + np.arange(days)
    opened, promo = np.ones(days + 14), np.zeros(days + 14)
    opened[days - 1] = 0
    sales[days - 1] = 0
    promo[::2] = 1
    panel = Panel(
        store_ids=np.array(["1"], dtype=object),
        item_ids=np.array([""], dtype=object),
        first_day=panels.FIRST_DAY,
        sales=sales[None, :],
        known_ahead={
            "open": opened[None, :].astype(np.float32),
            "promo": promo[None, :].astype(np.float32),
        },
    )
    summary = summarise_sales(
        panel.sales, panel.known_ahead["open"], panel.known_ahead["promo"], panel.last_day
    )
    target = panel.last_day + timedelta(days=1)  # column 70, with promotion
    forecasts = naive_forecasts(panel, summary, target)
    assert forecasts["same_weekday_last_week"] == [163.0]
    assert forecasts["last_open_day"] == [168.0]
    # The same weekday with promotion: columns 0, 14, 28, 42, 56.
    same_kind = [100.0, 114.0, 128.0, 142.0, 156.0]
    assert forecasts["same_weekday_and_promo_8"] == pytest.approx(
        np.expm1(np.mean(np.log1p(same_kind))), rel=1e-5
    )
    two_weeks = naive_forecasts(panel, summary, target + timedelta(days=7))
    assert two_weeks["same_weekday_last_week"] == [163.0]
    residuals = [
        np.log1p(sales[column])
        - summary.baseline[0, (panel.first_day.weekday() + column) % 7, int(promo[column])]
        for column in range(days - 7, days - 1)
    ]
    assert forecasts["weekday_promo_mean_and_last_6"] == pytest.approx(
        np.expm1(summary.baseline[0, target.weekday(), 1] + np.mean(residuals)), rel=1e-5
    )
