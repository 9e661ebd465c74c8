"""Histories that a training meets and that nobody designed it for. Each is fitted and forecast."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from ray_job.data.panel import Panel
from ray_job.forecasting.predict import METHODS, predict_days
from ray_job.settings import Settings
from tests.support import panels

HORIZON = 7
SETTINGS = Settings(
    training={"rows": 4000, "trees": 15, "leaves": 15, "calibration_days": 28}, lookback_days=400
)


def chain(*, stores=4, items=6, days=300, mean=(0.2, 40.0), seed=3, price=None, promo=None):
    """Poisson sales of items whose means go from the least to the most; all stores are open."""
    rng = np.random.default_rng(seed)
    n, all_days = stores * items, days + 20
    level = np.geomspace(*mean, n).reshape(-1, 1)
    weekday = 1 + 0.2 * np.cos(np.arange(days) * 2 * np.pi / 7)
    plans = {"open": np.ones((n, all_days), dtype=np.float32)}
    effect = np.ones((n, days))
    if price is not None:
        plans["price"] = np.tile(price, (n, 1)).astype(np.float32)
    if promo is not None:
        plans["promo"] = np.tile(promo, (n, 1)).astype(np.float32)
        effect = 1 + plans["promo"][:, :days]
    return Panel(
        store_ids=np.repeat([f"s{store}" for store in range(stores)], items).astype(np.object_),
        item_ids=np.array([f"i{item}" for item in range(items)] * stores, dtype=np.object_),
        first_day=panels.FIRST_DAY,
        sales=rng.poisson(level * weekday * effect).astype(np.float64),
        known_ahead=plans,
    )


def forecasts(panel):
    """The model of the panel's last day, and its forecasts of the next week."""
    context = panels.context(panel)
    model = panels.fitted_model(panel, context, SETTINGS, panel.last_day)
    targets = [panel.last_day + timedelta(days=ahead) for ahead in range(1, HORIZON + 1)]
    return model, predict_days(panel, panel.last_day, targets, context, model, SETTINGS)


def assert_sane(panel, made, factor=3.0):
    """Each series is forecast at about its recent mean, inside its interval."""
    assert np.isfinite(made.predicted).all()
    assert (made.lower <= made.upper).all()
    assert (made.lower >= 0).all()
    recent = np.nanmean(panel.sales[:, -56:], axis=1)
    assert (made.predicted.mean(axis=1) <= factor * recent + 0.5).all()
    assert (made.predicted.mean(axis=1) >= recent / factor - 0.5).all()
    assert made.predicted.sum() == pytest.approx(HORIZON * recent.sum(), rel=0.25)


def test_a_chain_of_which_all_series_are_intermittent():
    panel = chain(mean=(0.05, 1.0))
    _, made = forecasts(panel)
    assert_sane(panel, made)
    assert (made.lower == np.round(made.lower)).all()
    assert (made.upper == np.round(made.upper)).all()
    assert set(made.kinds) == {1}


def test_three_stores_of_113_days():
    panel = chain(stores=3, items=1, days=113, mean=(20.0, 200.0))
    _, made = forecasts(panel)
    assert_sane(panel, made)
    assert set(made.kinds) == {2}


def test_a_series_that_begins_yesterday_beside_one_of_years():
    panel = chain(stores=3, items=2, days=400, mean=(5.0, 80.0))
    sales = panel.sales.copy()
    sales[1, :-1] = np.nan
    _, made = forecasts(replace(panel, sales=sales))
    assert METHODS[made.method[1, 0]] == "similar"
    assert 0 < made.predicted[1, 0] < 10 * np.nanmax(sales)
    others = [0, 2, 3, 4, 5]
    assert {METHODS[place] for place in made.method[others].ravel()} <= {"model", "rule"}
    assert np.isfinite(made.predicted).all()


@pytest.mark.parametrize("jump", [100.0, 0.01])
def test_prices_that_jump(jump):
    price = np.full(320, 2.5)
    price[298:] *= jump
    panel = chain(price=price)
    _, made = forecasts(panel)
    assert_sane(panel, made)


def test_a_promotion_that_never_happened_before():
    promo = np.zeros(320)
    promo[300:] = 1
    panel = chain(promo=promo)
    _, made = forecasts(panel)
    assert_sane(panel, made)


def test_one_day_of_a_million_does_not_move_the_forecasts_of_others():
    panel = chain()
    sales = panel.sales.copy()
    sales[10, 200] = 1e6
    _, made = forecasts(replace(panel, sales=sales))
    others = np.arange(panel.n_series) != 10
    recent = np.mean(panel.sales[others, -56:])
    assert made.predicted[others].mean() == pytest.approx(recent, rel=0.25)


def test_series_of_very_different_size_are_all_forecast():
    panel = chain(mean=(0.1, 100_000.0))
    _, made = forecasts(panel)
    assert_sane(panel, made)
