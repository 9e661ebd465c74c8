from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from ray_job.bucket.errors import InputError
from ray_job.features import features_at, summarise
from ray_job.features.kinds import INTERMITTENT
from ray_job.features.naive import naive_forecasts
from ray_job.forecasting.predict import CLOSED, ENDED, FALLBACK, MODEL, RULE, predict_days
from ray_job.model.blend import Blend, KindBlend
from ray_job.settings import Run, Settings
from tests.support import panels

PANEL = panels.panel(stores=30, items=4, days=220, seed=6)
CONTEXT = panels.context(PANEL)
AS_OF = PANEL.first_day + timedelta(days=199)
TARGETS = [AS_OF + timedelta(days=ahead) for ahead in range(1, 8)]
SETTINGS = Settings(
    training={"rows": 4000, "trees": 20, "leaves": 15, "calibration_days": 28}, lookback_days=150
)


@pytest.fixture(scope="module")
def model():
    return panels.fitted_model(PANEL, CONTEXT, SETTINGS, AS_OF)


def predicted(panel, model, context=CONTEXT, settings=SETTINGS):
    return predict_days(panel, AS_OF, TARGETS, context, model, settings)


def without_similar(panel, model):
    """The predictions where new items are not forecast by similar ones."""
    settings = SETTINGS.model_copy(update={"run": Run(similar_stores=False)})
    return predicted(panel, model, settings=settings)


def with_sales(change):
    sales = PANEL.sales[:, :200].copy()
    change(sales)
    return replace(PANEL.until(AS_OF, AS_OF + timedelta(days=14)), sales=sales)


def test_the_method_of_a_row_follows_from_whether_it_is_open(model):
    made = predicted(PANEL, model)
    declared = PANEL.known_ahead["open"][:, 200:207]
    sunday = np.array([target.weekday() == 6 for target in TARGETS])
    # Where `open` is unknown the weekday decides: the stores never sell on Sundays.
    opened = np.where(np.isnan(declared), ~sunday, declared != 0)
    assert (made.method == np.where(opened, MODEL, CLOSED)).all()
    assert (made.predicted[~opened] == 0).all()
    assert (made.upper[~opened] == 0).all()
    assert (made.spread[~opened] == 0).all()
    assert (made.lower <= made.predicted).all()
    assert (made.predicted <= made.upper).all()
    assert (made.predicted[opened] > 0).all()


def test_a_closed_weekday_without_a_plan(model):
    made = predicted(replace(PANEL, known_ahead={}), model)
    sunday = next(place for place, target in enumerate(TARGETS) if target.weekday() == 6)
    assert (made.method[:, sunday] == CLOSED).all()
    assert (made.predicted[:, sunday] == 0).all()
    assert (made.closed_weeks[:, sunday] >= 4).all()
    others = [place for place in range(7) if place != sunday]
    assert (made.method[:, others] == MODEL).all()
    assert (made.closed_weeks[:, others] == 0).all()


def test_a_plan_that_says_open_counts_more_than_the_weekday(model):
    opened = np.ones_like(PANEL.known_ahead["open"])
    made = predicted(replace(PANEL, known_ahead={**PANEL.known_ahead, "open": opened}), model)
    assert (made.method == MODEL).all()
    assert (made.closed_weeks == 0).all()


def test_an_item_that_ended_gets_0(model):
    panel = with_sales(lambda sales: sales[1, -60:].fill(np.nan))
    made = predicted(panel, model)
    assert set(made.method[1].tolist()) == {CLOSED, ENDED}
    assert (made.predicted[1] == 0).all()
    assert (made.upper[1] == 0).all()
    assert ENDED not in made.method[0]


def test_any_part_of_a_chunk_gives_the_same_bits(model):
    whole = predicted(PANEL, model)
    for rows in ([5], [119, 0, 64], list(range(40, 90))):
        chosen = np.array(rows, dtype=np.int64)
        part = predicted(PANEL.take(chosen), model)
        for name in ("predicted", "lower", "upper", "spread", "method", "known_through"):
            assert getattr(part, name).tobytes() == getattr(whole, name)[chosen].tobytes()


def test_nothing_after_the_as_of_is_used(model):
    sales = PANEL.sales.copy()
    sales[:, 200:] = 1e6
    changed = predicted(replace(PANEL, sales=sales), model)
    assert changed.predicted.tobytes() == predicted(PANEL, model).predicted.tobytes()


def test_a_new_series_gets_the_mean_of_its_weekday(model):
    panel = with_sales(lambda sales: sales[0, :180].fill(np.nan))
    opened = np.ones_like(panel.known_ahead["open"])
    panel = replace(panel, known_ahead={**panel.known_ahead, "open": opened})
    panel.sales[0, 180:] = np.arange(20) + 1.0
    made = without_similar(panel, model)
    assert (made.method[0] == FALLBACK).all()
    # Day 200 has the weekday of days 186 and 193, whose sales are 7 and 14.
    assert made.predicted[0, 0] == pytest.approx((7 + 14) / 2)
    assert made.lower[0, 0] < made.predicted[0, 0] < made.upper[0, 0]


def test_a_weekday_never_seen_gets_the_mean_of_the_last_days(model):
    panel = with_sales(lambda sales: sales[0].fill(np.nan))
    panel.sales[0, 197:] = [4.0, 5.0, 9.0]
    opened = np.ones_like(panel.known_ahead["open"])
    made = without_similar(replace(panel, known_ahead={"open": opened}), model)
    assert made.predicted[0, 0] == pytest.approx(6.0)


def test_a_series_never_seen_gets_nothing(model):
    made = without_similar(with_sales(lambda sales: sales[0].fill(np.nan)), model)
    opened = made.method[0] != CLOSED
    assert (made.method[0, opened] == FALLBACK).all()
    assert np.isnan(made.predicted[0, opened]).all()
    assert np.isnat(made.known_through[0])


def test_late_sales_are_used_until_they_are_too_old(model):
    made = predicted(with_sales(lambda sales: sales[0, -14:].fill(np.nan)), model)
    assert made.known_through[0] <= np.datetime64(AS_OF - timedelta(days=14))
    for days, method in ((10, MODEL), (16, FALLBACK)):
        panel = with_sales(lambda sales, days=days: sales[:, -days:].fill(np.nan))
        panel.sales[:, -days - 1] = 50.0
        made = predicted(panel, model)
        opened = made.method != CLOSED
        assert (made.method[opened] == method).all()
        assert (made.known_through == np.datetime64(AS_OF - timedelta(days=days))).all()


def test_missing_weather_is_marked_where_the_model_wants_weather(model):
    assert not predicted(PANEL, model).weather_missing.any()
    without = panels.context(PANEL, weather=False)
    assert predicted(PANEL, model, without).weather_missing.all()


def test_a_target_beyond_the_model_s_horizon_is_refused(model):
    with pytest.raises(InputError, match="model v forecasts 7 days ahead"):
        predict_days(PANEL, AS_OF, [AS_OF + timedelta(days=8)], CONTEXT, model, SETTINGS)


def test_a_rule_serves_the_kind_for_which_it_was_better(model):
    rng = np.random.default_rng(1)

    def sell_nothing_often(sales):
        sales[:40][rng.random((40, 200)) < 0.5] = 0.0

    panel = with_sales(sell_nothing_often)
    rule = KindBlend(rule="same_weekday_and_promo_8", factors=(1.1, 1.2))
    description = model.description.model_copy(
        update={"blend": Blend(kinds={**model.description.blend.kinds, "intermittent": rule})}
    )
    made, plain = predicted(panel, replace(model, description=description)), predicted(panel, model)
    chosen = made.kinds == INTERMITTENT
    assert chosen.sum() == 40
    opened = plain.method == MODEL
    assert (made.method[chosen][opened[chosen]] == RULE).all()
    assert (made.method[~chosen] == plain.method[~chosen]).all()
    known = panel.window(AS_OF, SETTINGS.lookback_days, model.description.inputs.reach)
    summary = summarise(known, CONTEXT, model.description.inputs)
    for place, factor in ((0, 1.1), (3, 1.2)):
        forecasts = naive_forecasts(known, summary.sales, TARGETS[place])[rule.rule]
        rows = chosen & opened[:, place] & ~np.isnan(forecasts)
        days = features_at(summary, TARGETS[place], CONTEXT)[:, model.days]
        rows &= days == place + 1
        assert made.predicted[rows, place] == pytest.approx(forecasts[rows] * factor)
        assert (made.lower[rows, place] <= made.predicted[rows, place]).all()
