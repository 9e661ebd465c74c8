from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from ray_job.bucket.errors import InputError
from ray_job.features import features
from ray_job.features.ahead import OF_OLDER_MODELS, OF_SEASON
from ray_job.model.boosters import BOOSTERS, BoosterRows, Layout
from ray_job.model.ensemble import Budget, Ensemble, fit_ensemble, fit_judged
from ray_job.model.examples import (
    calibration_days,
    calibration_set,
    evenly_spaced,
    scored,
    training_set,
)
from ray_job.model.training import fit
from ray_job.model.training_data import days_of_training
from ray_job.settings import Settings
from tests.support import panels

PANEL = panels.panel(stores=8, days=180)
CONTEXT = panels.context(PANEL)
INPUTS = panels.inputs(PANEL, CONTEXT)
AS_OF = PANEL.first_day + timedelta(days=159)
SETTINGS = Settings(
    training={"rows": 400, "trees": 8, "leaves": 15, "calibration_days": 28}, lookback_days=120
)


def after_as_of_changed(panel):
    sales = panel.sales.copy()
    sales[:, panel.column(AS_OF) + 1 :] = 1e6
    return replace(panel, sales=sales)


def test_examples_are_features_of_the_past_and_the_sales_that_came():
    examples = training_set(PANEL, AS_OF, CONTEXT, INPUTS, SETTINGS)
    assert 300 < len(examples.sales) < 500
    assert set(examples.days_ahead) == set(range(1, 8))
    for row in (0, 77, len(examples.sales) - 1):
        as_of = AS_OF.fromordinal(int(examples.as_of[row]))
        target = AS_OF.fromordinal(int(examples.target[row]))
        series = int(examples.series[row])
        assert as_of < target <= AS_OF
        assert examples.sales[row] == PANEL.sales[series, PANEL.column(target)]
        known = PANEL.window(as_of, SETTINGS.lookback_days, INPUTS.reach)
        expected = features(known, as_of, target, CONTEXT, INPUTS)[series]
        assert expected.tobytes() == examples.features[row].tobytes()


def test_nothing_after_the_as_of_is_used():
    changed = after_as_of_changed(PANEL)
    for make, days in ((training_set, []), (calibration_set, [14])):
        original = make(PANEL, AS_OF, *days, CONTEXT, INPUTS, SETTINGS)
        with_future = make(changed, AS_OF, *days, CONTEXT, INPUTS, SETTINGS)
        assert original.features.tobytes() == with_future.features.tobytes()
        assert original.sales.tolist() == with_future.sales.tolist()


def test_more_rows_than_there_are_take_each_sale_once():
    settings = SETTINGS.model_copy(
        update={"training": SETTINGS.training.model_copy(update={"rows": 10**6})}
    )
    examples = training_set(PANEL, AS_OF, CONTEXT, INPUTS, settings)
    sales = set(zip(examples.series, examples.target, strict=True))
    assert len(sales) == len(examples.sales) > 500
    # A day is seen from several distances, and most often from the evening before.
    of_day = [examples.days_ahead[examples.target == day] for day in np.unique(examples.target)]
    assert np.mean([len(set(aheads)) > 2 for aheads in of_day]) > 0.9
    assert 0.35 < np.mean(examples.days_ahead == 1) < 0.55


@pytest.mark.parametrize(
    ("rows", "most", "expected"),
    [
        (4, 6, [0, 1, 2, 3]),
        (6, 6, [0, 1, 2, 3, 4, 5]),
        (9, 6, [0, 1, 3, 4, 6, 7]),
        (13, 6, [0, 2, 4, 6, 8, 10]),
        (0, 6, []),
    ],
)
def test_rows_are_left_out_at_equal_distances(rows, most, expected):
    assert evenly_spaced(np.arange(rows), most).tolist() == expected


def test_days_that_cannot_be_judged_are_left_out():
    panel = panels.panel(stores=2, items=2, days=30)
    sales = np.full_like(panel.sales, 5.0)
    sales[0, 3] = 0.0
    sales[:2, 4] = 0.0
    sales[2, 5] = np.nan
    opened = np.ones_like(panel.known_ahead["open"])
    opened[3, 6] = 0.0
    opened[3, 7] = np.nan
    counted = scored(replace(panel, sales=sales, known_ahead={"open": opened}))
    expected = np.ones_like(counted)
    expected[:2, 4] = False
    expected[2, 5] = False
    expected[3, 6] = False
    assert (counted == expected).all()


def test_a_model_is_calibrated_described_and_made_again():
    fitted = fit(PANEL, AS_OF, CONTEXT, SETTINGS, categories=panels.CATEGORIES)
    again = fit(after_as_of_changed(PANEL), AS_OF, CONTEXT, SETTINGS, categories=panels.CATEGORIES)
    assert fitted.trained_on.last == AS_OF
    assert fitted.trained_on.stores == 8
    assert len(fitted.intervals.lower) == SETTINGS.horizon
    assert fitted.metrics["wape_1_ahead"] < 0.4
    assert fitted.inputs.categories["store_format"] == ("small", "large")
    assert (fitted.intervals, fitted.metrics) == (again.intervals, again.metrics)
    examples = training_set(PANEL, AS_OF, CONTEXT, INPUTS, SETTINGS)
    matrix = np.stack([examples.column(name) for name in fitted.features], axis=1)
    assert (fitted.regressor.predict(matrix) == again.regressor.predict(matrix)).all()


@pytest.mark.parametrize(("days", "known"), [(448, False), (449, True)])
def test_the_season_is_learnt_from_examples_of_a_year(days, known):
    panel = panels.panel(stores=4, days=days)
    fitted = fit(panel, panel.last_day, CONTEXT, SETTINGS, categories=panels.CATEGORIES)
    assert [name in fitted.features for name in OF_SEASON] == [known, known]
    assert not set(OF_OLDER_MODELS) & set(fitted.features)
    assert set(fitted.features) >= {"weekday", "day_of_month", "days_around_christmas"}


def test_too_little_history_is_refused():
    short = panels.panel(days=104)
    with pytest.raises(InputError, match=r"too little history to train on .* fewer than 105 days"):
        fit(short, short.last_day, CONTEXT, SETTINGS, categories=panels.CATEGORIES)


def test_a_short_history_is_calibrated_on_a_third_of_it():
    assert calibration_days(PANEL, AS_OF, SETTINGS) == (160 - 84) // 3
    assert calibration_days(panels.panel(days=400), AS_OF + timedelta(days=100), SETTINGS) == 28


@pytest.mark.parametrize(
    ("first", "lookback", "expected"),
    [
        (None, 100, 2000),
        (date(2026, 8, 1), 100, 100),
        (date(2024, 11, 1), 100, 730),
        (date(2011, 1, 1), 100, 2000),
        (date(2011, 1, 1), 2500, 2500),
    ],
)
def test_training_reads_history_days_but_at_least_the_lookback(first, lookback, expected):
    files = pa.table({"first_date": pa.array([first, None, date(2026, 10, 1)], pa.date32())})
    files = files.slice(0, 2) if first is None else files
    histories = SimpleNamespace(files=files)
    settings = Settings(lookback_days=lookback)
    assert days_of_training(histories, settings, date(2026, 10, 31)) == expected


@pytest.mark.parametrize(("first", "expected"), [(0, 25), (50, 25), (70, 20), (80, 17)])
def test_held_out_days_are_counted_from_the_first_day_that_can_be_an_example(first, expected):
    sales = PANEL.sales.copy()
    sales[:, :first] = np.nan
    assert calibration_days(replace(PANEL, sales=sales), AS_OF, SETTINGS) == expected


def test_sales_that_ended_long_ago_cannot_be_calibrated_on():
    sales = PANEL.sales.copy()
    sales[:, 120:] = np.nan
    with pytest.raises(InputError, match="nothing to calibrate on"):
        fit(replace(PANEL, sales=sales), AS_OF, CONTEXT, SETTINGS, categories=panels.CATEGORIES)


NAMES = ["history_days", "share_without_sales", "baseline", "mean_recent", "weekday_effect"]


def rows_of(sales, signal):
    """Rows of smooth series of one level, of which one plan tells more."""
    columns = [200 + 0 * sales, 0 * sales, 0 * sales + np.log(10.0), 0 * sales + np.log(11.0)]
    features = np.stack([*columns, 0 * sales, signal], axis=1).astype(np.float32)
    layout = Layout.of([*NAMES, "signal"], ["signal"])
    return BoosterRows(layout, features, sales, np.zeros(len(sales), dtype=np.int64))


@pytest.mark.parametrize(("is_noise", "leaves"), [(True, 4), (False, 31)])
def test_noise_gets_few_and_small_trees(is_noise, leaves):
    rng = np.random.default_rng(5)
    signal = rng.random(4000)
    steps = np.floor(16 * signal)
    means = np.full(4000, 10.0) if is_noise else 10.0 + 9.0 * (-1.0) ** steps
    sales = rng.poisson(means).astype(np.float64)
    learned, held = (
        rows_of(sales[half], signal[half]) for half in (slice(3000), slice(3000, None))
    )
    tried = [Budget(trees=60, learning_rate=0.2, leaves=number, seed=1) for number in (31, 4)]
    best, predicted = fit_judged(learned, held, None, [tried] * len(BOOSTERS))
    assert [budget.leaves for budget in best] == [leaves] * len(BOOSTERS)
    assert not is_noise or max(budget.trees for budget in best) < 30
    # 17 trees of this learning rate leave 2 % of what there was to learn.
    assert min(budget.trees for budget in best) >= 17
    again = fit_ensemble(learned, None, best, kind=(0, 1), used=[[True] * 3] * 3)
    assert np.allclose(predicted, again.predict(held.features))
    # A booster without a share of any kind is not fitted, and one without a share of a row's kind
    # is not computed for it.
    used = [[False, True, True], [False, True, False], [False, True, False]]
    some = fit_ensemble(learned, None, best, kind=(0, 1), used=used)
    assert some.of_logs is None
    mixed = held.features.copy()
    mixed[::2, 1] = 0.5
    computed = some.predict(mixed)
    assert (computed[:, 0] == 0.0).all()
    assert (computed[::2, 2] == 0.0).all()
    assert np.allclose(computed[1::2], np.where([False, True, True], predicted[1::2], 0.0))


def test_an_artifact_of_two_boosters_predicts_as_before():
    rng = np.random.default_rng(6)
    rows = rows_of(rng.poisson(9.0, 500).astype(np.float64), rng.random(500))
    budget = Budget(trees=5, learning_rate=0.2, leaves=4, seed=1)
    used = [[True, True, False]] * 3
    now = fit_ensemble(rows, None, [budget] * len(BOOSTERS), kind=(0, 1), used=used)
    before = object.__new__(Ensemble)
    before.__setstate__([now.of_logs, now.of_means, now.columns])
    assert np.array_equal(before.predict(rows.features), now.predict(rows.features)[:, :2])


def test_the_booster_of_lags_takes_amounts_plans_and_closures_and_the_others_all_but_lags():
    lags = ["lag_0", "lag_weekday_1", "lag_residual_0"]
    others = ["mean_last_7", "residual_year_ago_day", "price", "price_before"]
    names = [*NAMES, *lags, *others, "days_until_holiday", "closed_days_before"]
    layout = Layout.of(names, ["price"])
    features = np.arange(14.0, dtype=np.float32)[None, :]
    assert layout.inputs(0, features).tolist() == layout.inputs(1, features).tolist()
    assert layout.inputs(0, features).tolist() == [[0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 13]]
    as_they_are, mean, year_ago = [2, 3, 5, 6, 7, 10, 12, 13], 8 + 3, 9 + 2
    assert layout.inputs(2, features).tolist() == [[*as_they_are, mean, year_ago]]
