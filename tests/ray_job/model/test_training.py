from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from ray_job.bucket.errors import InputError
from ray_job.features import features
from ray_job.model.examples import calibration_days, calibration_set, scored, training_set
from ray_job.model.training import fit
from ray_job.settings import Settings
from tests.support import panels

PANEL = panels.panel(stores=8, days=180)
CONTEXT = panels.context(PANEL)
INPUTS = panels.inputs(PANEL, CONTEXT)
AS_OF = PANEL.first_day + timedelta(days=159)
SETTINGS = Settings(
    training={"rows": 1500, "trees": 8, "leaves": 15, "calibration_days": 28}, lookback_days=120
)


def after_as_of_changed(panel):
    sales = panel.sales.copy()
    sales[:, panel.column(AS_OF) + 1 :] = 1e6
    return replace(panel, sales=sales)


def test_examples_are_features_of_the_past_and_the_sales_that_came():
    examples = training_set(PANEL, AS_OF, CONTEXT, INPUTS, SETTINGS)
    assert 1200 < len(examples.sales) < 1800
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


def test_more_rows_than_there_are_take_each_example_once():
    settings = SETTINGS.model_copy(
        update={"training": SETTINGS.training.model_copy(update={"rows": 10**6})}
    )
    examples = training_set(PANEL, AS_OF, CONTEXT, INPUTS, settings)
    distinct = set(zip(examples.series, examples.as_of, examples.target, strict=True))
    assert len(distinct) == len(examples.sales)


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


def test_too_little_history_is_refused():
    short = panels.panel(days=104)
    with pytest.raises(InputError, match=r"too little history to train on .* fewer than 105 days"):
        fit(short, short.last_day, CONTEXT, SETTINGS, categories=panels.CATEGORIES)


def test_a_short_history_is_calibrated_on_a_third_of_it():
    assert calibration_days(PANEL, AS_OF, SETTINGS) == (160 - 84) // 3
    assert calibration_days(panels.panel(days=400), AS_OF + timedelta(days=100), SETTINGS) == 28


def test_sales_that_ended_long_ago_cannot_be_calibrated_on():
    sales = PANEL.sales.copy()
    sales[:, 120:] = np.nan
    with pytest.raises(InputError, match="nothing to calibrate on"):
        fit(replace(PANEL, sales=sales), AS_OF, CONTEXT, SETTINGS, categories=panels.CATEGORIES)
